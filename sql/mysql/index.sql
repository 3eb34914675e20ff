-- For `find_by = watcher` and `find_by = either` on MariaDB and MySQL: without this index each
-- look-up reads the whole table. The default, `find_by = presentity`, needs nothing: OpenSIPS and
-- Kamailio both bring an index that starts with presentity_uri.
--
--   mysql opensips < index.sql
--
-- May be run again: an index of this name is left as it is. (CREATE INDEX IF NOT EXISTS is
-- MariaDB's alone.)

SET @mwid = (
    SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE()
      AND table_name = 'active_watchers'
      AND index_name = 'mwid_watcher'
);
SET @mwid = IF(@mwid = 0,
    'CREATE INDEX mwid_watcher ON active_watchers (watcher_username, watcher_domain, event)',
    'DO 0');
PREPARE mwid FROM @mwid;
EXECUTE mwid;
DEALLOCATE PREPARE mwid;
