//! Any input at all.

use mwid::config::{Config, Loaded, NextHop};
use proptest::prelude::*;

use crate::keys::KEYS;
use crate::{good, parse};

/// Lines that are often right, so that the reader is reached behind the dialect.
fn line() -> impl Strategy<Value = String> {
    let sections = [
        "general",
        "spool",
        "database",
        "contexts",
        "mailboxes",
        "agent",
        "users",
        "watch",
        "timers",
        "state",
        "control",
    ];
    let entries: Vec<_> = KEYS.iter().map(|test| test.3.to_owned()).collect();
    prop_oneof![
        proptest::sample::select(sections.to_vec()).prop_map(|name| format!("[{name}]")),
        proptest::sample::select(entries),
        "[a-z]{1,8} ?=>? ?[a-z0-9:/@,;. ]{0,20}",
        "[0-9]{1,3}(@[a-z]{1,3})? = ([0-9]@[a-z],?){0,3}",
        "\\PC{0,20}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_text_loads_or_is_refused_with_lines_of_the_file(
        lines in proptest::collection::vec(line(), 0..12)
    ) {
        let text = lines.join("\n");
        let count = text.split('\n').count();
        match parse(&text) {
            Ok(Loaded { config: Config { general, .. }, .. }) => {
                prop_assert!(!general.proxy.is_empty() || general.next_hop == NextHop::Dialog);
            }
            Err(refused) => {
                prop_assert!(!refused.errors.is_empty());
                for error in &refused.errors {
                    prop_assert!(error.line.is_none_or(|line| (1..=count).contains(&line)));
                }
            }
        }
    }

    /// Each key at its default or its other value, in any mixture: what is printed reads the same.
    #[test]
    fn the_effective_configuration_reads_as_itself(
        chosen in proptest::collection::vec(any::<bool>(), KEYS.len()),
        agent in "[ -~é]{0,30}", context in "[a-z;#'\"]{1,5}", user in "[a-z0-9;?&=+$*%']{1,9}"
    ) {
        let mut text = format!("[general]\nproxy = p\nuseragent = {agent}\n")
            + &format!("[contexts]\nx{context} = x\n[mailboxes]\n1@x{context} = {user}@a\n");
        text = text.replace(';', "\\;");
        text.push_str("[general]\nauth_user = u\nauth_password_env = MWID_PASSWORD\n");
        for (&(section, key, _, entry, _), _) in
            KEYS.iter().zip(&chosen).filter(|(_, chosen)| **chosen)
        {
            // The masked password of a URL is refused when it is read again.
            if !entry.contains('\n') && !["proxy", "useragent", "url", "subscribers"].contains(&key) {
                text.push_str(&format!("[{section}]\n{entry}\n"));
            }
        }
        let config = good(&text);
        prop_assert_eq!(good(&config.to_ini()), config);
    }
}
