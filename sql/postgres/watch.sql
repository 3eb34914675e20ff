-- mwid: hear of new and refreshed subscriptions at once (PostgreSQL 10 and newer).
--
-- What it does: when a message-summary row of active_watchers is made or refreshed, its id and
-- whose it is are sent with NOTIFY to whoever listens on the channel mwid_changes.
--
-- What it costs: some tens of microseconds for each such row that the presence server writes; nothing for
-- rows of other events, nothing when only local_cseq changes, nothing to poll, nothing on disk.
-- Whatever goes wrong in it, the presence server's own write succeeds.
--
-- Rights: CREATE on the schema (for the function), TRIGGER on the table. A listener needs none.
-- May be run again at any time. mwid sql --remove takes it away.

BEGIN;

CREATE OR REPLACE FUNCTION mwid_changed() RETURNS trigger LANGUAGE plpgsql AS $mwid$
BEGIN
    -- A payload may have 8000 bytes: a column that somebody widened is cut.
    PERFORM pg_notify('mwid_changes', json_build_object(
        'id', NEW.id,
        'presentity', left(NEW.presentity_uri::text, 300),
        'user', left(NEW.watcher_username::text, 300),
        'domain', left(NEW.watcher_domain::text, 300))::text);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$mwid$;

DO $mwid$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = '"active_watchers"'::regclass
                   AND tgname = 'mwid_insert') THEN
        CREATE TRIGGER mwid_insert AFTER INSERT ON "active_watchers" FOR EACH ROW
            WHEN (NEW.event = 'message-summary')
            EXECUTE PROCEDURE mwid_changed();
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = '"active_watchers"'::regclass
                   AND tgname = 'mwid_update') THEN
        CREATE TRIGGER mwid_update AFTER UPDATE ON "active_watchers" FOR EACH ROW
            WHEN (NEW.event = 'message-summary'
                  AND (NEW.remote_cseq, NEW.expires, NEW.contact, NEW.status)
                      IS DISTINCT FROM (OLD.remote_cseq, OLD.expires, OLD.contact, OLD.status))
            EXECUTE PROCEDURE mwid_changed();
    END IF;
END
$mwid$;

COMMIT;
