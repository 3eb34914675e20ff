//! Files on disk: those of operators, those that are no text, and `mwid check`.

use std::path::Path;
use std::time::Duration;

use mwid::config::check::run_check;
use mwid::config::{self, Process};
use serde_json::{Value as Json, json};

use crate::{good, parse};

#[test]
fn a_file_of_res_zonkey_mwi_loads_unchanged() {
    let text = include_str!("../fixtures/zonkeymwi-shape.conf");
    for text in [text.to_owned(), text.replace('\n', "\r\n"), text.replace('=', " => ")] {
        let general = good(&text).general;
        assert_eq!(general.proxy[0].to_string(), "proxy.opensips.org:5060");
        assert_eq!(general.bind_address(), Some("101.102.103.1".parse().unwrap()));
        assert_eq!(general.useragent, "Asterisk Media Server01");
        assert_eq!(general.contactuser.as_deref(), Some("voicemail-user"));
        assert_eq!(general.vmexten.as_deref(), Some("*97"));
    }
}

#[test]
fn keys_and_sections_are_read_in_any_case_as_asterisk_reads_them() {
    assert_eq!(good("[General]\nProxy=a\nVMExten=*98").general.vmexten.as_deref(), Some("*98"));
}

#[test]
fn a_section_may_go_on_later() {
    let config =
        good("[general]\nproxy=a\n[timers]\nt1=100\n[general]\nvmexten=1\n[timers]\nt2=200");
    assert_eq!(config.timers.t2, Duration::from_millis(200));
    assert_eq!(config.general.vmexten.as_deref(), Some("1"));
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.conf");
    let refused =
        || config::load(&file).unwrap_err().to_string().replace(file.to_str().unwrap(), "F");
    assert_eq!(refused(), "cannot read F: No such file or directory (os error 2)");
    std::fs::write(&file, b"[general]\nproxy=a\nuseragent=\xe9\n").unwrap();
    assert_eq!(refused(), "F:3: not UTF-8; save the file as UTF-8 text");
    std::fs::write(&file, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(refused(), "F is larger than 1048576 bytes");
    std::fs::write(
        &file,
        [b"[general]\nproxy=a\n".as_slice(), &vec![b'\n'; 1024 * 1024 - 18]].concat(),
    )
    .unwrap();
    assert!(config::load(&file).is_ok());
    let refused = config::load(folder.path()).unwrap_err().to_string();
    assert_eq!(refused, format!("{} is not a regular file", folder.path().display()));
}

#[test]
fn a_pipe_in_place_of_a_password_file_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = format!("[general]\nproxy=p\nauth_user=u\nauth_password_file={}", pipe.display());
    let refused = config::parse(Path::new("t"), &text, &Process).unwrap_err().to_string();
    assert!(refused.ends_with("pipe is not a regular file"), "{refused}");
}

#[test]
fn check_prints_the_effective_configuration_its_warnings_and_an_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.conf");
    std::fs::write(
        &file,
        "[database]\nurl = mysql://u@h/d\n[general]\nproxy = p\nrequest_uri = aor\n",
    )
    .unwrap();
    let checked = run_check(&file, false);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    assert!(checked.stdout.contains("\nproxy = p:5060\nbindip =\nbindport = 0\n"));
    assert!(checked.stdout.contains("\n; warning: line 5: [general] request_uri = aor: "));
    assert_eq!(good(&checked.stdout), config::load(&file).unwrap().config);

    let json: Json = serde_json::from_str(&run_check(&file, true).stdout).unwrap();
    assert_eq!((&json["usable"], &json["warnings"][0]["line"]), (&json!(true), &json!(5)));
    assert_eq!(json["config"]["timers"]["t1"], json!(500));

    std::fs::write(&file, "[general]\nroute = x").unwrap();
    let refused = run_check(&file, false);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert_eq!(refused.stderr.lines().count(), 2);
    let json: Json = serde_json::from_str(&run_check(&file, true).stdout).unwrap();
    assert_eq!((&json["usable"], &json["errors"][0]["line"]), (&json!(false), &json!(2)));
    assert_eq!(json["errors"][1]["line"], json!(null));
}

#[test]
fn a_large_file_is_read_in_time_that_grows_with_it() {
    let many: String = (0..35_000).map(|n| format!("{n};=u{n}@example.com\n")).collect();
    let text = format!("[general]\nproxy=p\n[mailboxes]\n{many}");
    assert!(text.len() < 1024 * 1024);
    let start = std::time::Instant::now();
    let loaded = parse(&text).unwrap();
    assert_eq!((loaded.config.accounts.mailboxes.len(), loaded.warnings.len()), (35_000, 35_001));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let list: Vec<_> = (0..1001).map(|n| format!("{n}@a")).collect();
    let error = "t.conf:4: [mailboxes] 1@default: the list has more than 1000 elements";
    assert_eq!(crate::errors_below_proxy(&format!("[mailboxes]\n1={}", list.join(","))), error);
}
