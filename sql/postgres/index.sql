-- For `find_by = watcher` and `find_by = either` on PostgreSQL: without this index each look-up
-- reads the whole table. The default, `find_by = presentity`, needs nothing: OpenSIPS and Kamailio
-- both bring an index that starts with presentity_uri.
--
--   psql opensips -f index.sql
--
-- May be run again. Writers wait while it is built; on a large table that is busy, say CREATE INDEX
-- CONCURRENTLY instead.

CREATE INDEX IF NOT EXISTS mwid_watcher
    ON active_watchers (watcher_username, watcher_domain, event);
