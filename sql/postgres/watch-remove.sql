-- mwid: take away what mwid sql installed. Needs the owner of the table active_watchers and of the
-- function.

BEGIN;
DROP TRIGGER IF EXISTS mwid_insert ON "active_watchers";
DROP TRIGGER IF EXISTS mwid_update ON "active_watchers";
DO $mwid$
BEGIN
    -- Another presence server's table in this database may still use it.
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgfoid = to_regproc('mwid_changed')) THEN
        DROP FUNCTION IF EXISTS mwid_changed();
    END IF;
END
$mwid$;
COMMIT;
