-- mwid's own user on MariaDB and MySQL, with the rights that mwid needs and no others.
--
--   mysql opensips < user.sql
--
-- First write your own password, and the address of the media server in place of '%'.

CREATE USER 'mwid'@'%' IDENTIFIED BY 'change-me';
GRANT SELECT, UPDATE (local_cseq) ON active_watchers TO 'mwid'@'%';

-- Only with several mwid, `scope = own` or `shared`, once cluster.sql was run:
-- GRANT SELECT, INSERT, UPDATE, DELETE ON mwid_nodes TO 'mwid'@'%';
-- GRANT SELECT, INSERT, UPDATE ON mwid_counts TO 'mwid'@'%';
-- GRANT SELECT, UPDATE ON mwid_cluster TO 'mwid'@'%';

-- Only with [agent] listen, whose own table it is (agent.sql):
-- GRANT SELECT, INSERT, UPDATE, DELETE ON active_watchers TO 'mwid'@'%';
-- and, where `subscribers` names the proxy's database (ha1_sha256, too, where it is there):
-- GRANT SELECT (username, domain, ha1) ON subscriber TO 'mwid'@'%';

-- Only with `cleanup = delete` in zonkeymwi.conf:
-- GRANT DELETE ON active_watchers TO 'mwid'@'%';

-- Only with the triggers of watch.sql (`mwid sql`), once they are there. Without TRIGGER mwid does not
-- see that they are:
-- GRANT TRIGGER ON active_watchers TO 'mwid'@'%';
-- GRANT SELECT, DELETE ON mwid_changes TO 'mwid'@'%';
