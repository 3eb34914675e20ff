-- For `find_by = watcher` and `find_by = either` in an SQLite file: without this index each look-up
-- reads the whole table. The default, `find_by = presentity`, needs nothing: OpenSIPS and Kamailio
-- both bring an index that starts with presentity_uri.
--
--   sqlite3 /var/lib/opensips/opensips.db < index.sql
--
-- May be run again.

CREATE INDEX IF NOT EXISTS mwid_watcher
    ON active_watchers (watcher_username, watcher_domain, event);
