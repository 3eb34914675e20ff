-- mwid's own user on PostgreSQL, with the rights that mwid needs and no others.
--
--   psql opensips -f user.sql
--
-- First write your own password. pg_hba.conf must let the user in from the media server.

CREATE ROLE mwid LOGIN PASSWORD 'change-me';
GRANT SELECT, UPDATE (local_cseq) ON active_watchers TO mwid;

-- Only with `cleanup = delete` in zonkeymwi.conf:
-- GRANT DELETE ON active_watchers TO mwid;

-- The triggers of watch.sql (`mwid sql`) need no more rights of mwid.
