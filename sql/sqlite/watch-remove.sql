-- mwid: take away what mwid sql installed on active_watchers.

BEGIN IMMEDIATE;
DROP TRIGGER IF EXISTS "mwid_insert_active_watchers";
DROP TRIGGER IF EXISTS "mwid_update_active_watchers";
DROP TABLE IF EXISTS mwid_changes;
COMMIT;
