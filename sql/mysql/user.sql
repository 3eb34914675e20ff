-- mwid's own user on MariaDB and MySQL, with the rights that mwid needs and no others.
--
--   mysql opensips < user.sql
--
-- First write your own password, and the address of the media server in place of '%'.

CREATE USER 'mwid'@'%' IDENTIFIED BY 'change-me';
GRANT SELECT, UPDATE (local_cseq) ON active_watchers TO 'mwid'@'%';

-- Only with `cleanup = delete` in zonkeymwi.conf:
-- GRANT DELETE ON active_watchers TO 'mwid'@'%';

-- Only with the triggers of `mwid sql`, after an administrator has installed them: mwid reads and
-- empties the change table, and must be able to see that the triggers are there.
-- GRANT SELECT, DELETE ON mwid_changes TO 'mwid'@'%';
-- GRANT TRIGGER ON active_watchers TO 'mwid'@'%';
