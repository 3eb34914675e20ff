-- mwid's own user on PostgreSQL, with the rights that mwid needs and no others.
--
--   psql opensips -f user.sql
--
-- First write your own password. pg_hba.conf must let the user in from the media server.

CREATE ROLE mwid LOGIN PASSWORD 'change-me';
GRANT SELECT, UPDATE (local_cseq) ON active_watchers TO mwid;

-- Only with several mwid, `scope = own` or `shared`, once cluster.sql was run:
-- GRANT SELECT, INSERT, UPDATE, DELETE ON mwid_nodes TO mwid;
-- GRANT SELECT, INSERT, UPDATE ON mwid_counts TO mwid;
-- GRANT SELECT, UPDATE ON mwid_cluster TO mwid;

-- Only with [agent] listen, whose own table it is (agent.sql):
-- GRANT SELECT, INSERT, UPDATE, DELETE ON active_watchers TO mwid;
-- GRANT USAGE ON SEQUENCE active_watchers_id_seq TO mwid;
-- and, where `subscribers` names the proxy's database (ha1_sha256, too, where it is there):
-- GRANT SELECT (username, domain, ha1) ON subscriber TO mwid;

-- Only with `cleanup = delete` in zonkeymwi.conf:
-- GRANT DELETE ON active_watchers TO mwid;

-- The triggers of watch.sql (`mwid sql`) need no more rights of mwid.
