-- mwid: take away what mwid sql installed. Needs TRIGGER on the table active_watchers and DROP on
-- mwid_changes.

DROP TRIGGER IF EXISTS `mwid_insert_active_watchers`;
DROP TRIGGER IF EXISTS `mwid_update_active_watchers`;
DROP TABLE IF EXISTS mwid_changes;
