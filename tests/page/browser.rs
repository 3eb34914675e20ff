//! Chromium, spoken to by its DevTools protocol over two pipes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getuid, mkfifo};
use serde_json::{Value, json};

const CHROMIUM: &str = "/usr/bin/chromium";

/// A browser starts slowly where there is much to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// One browser with one tab; it and all its processes end when it is dropped.
pub struct Browser {
    child: Child,
    commands: File,
    answers: Receiver<Value>,
    session: Option<String>,
    number: u64,
    /// What was loaded, and what the browser complained of.
    pub loaded: Vec<String>,
    pub complaints: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Self {
        assert!(Path::new(CHROMIUM).exists(), "there is no {CHROMIUM}; run scripts/setup");
        let folder = tempfile::tempdir().unwrap();
        let [commands, answers] = ["commands", "answers"].map(|name| folder.path().join(name));
        for pipe in [&commands, &answers] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        }
        // It reads from file 3 and writes to file 4; opened for both ways, neither waits for us.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 3<>\"$0/commands\" 4<>\"$0/answers\""]).arg(folder.path());
        shell.arg(CHROMIUM);
        shell.args(["--headless=new", "--remote-debugging-pipe", "--no-first-run"]);
        shell.args(["--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions"]);
        shell.args(["--disable-background-networking", "--disable-component-update"]);
        shell.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        if getuid().is_root() {
            shell.arg("--no-sandbox");
        }
        shell.env("HOME", folder.path()).process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = shell.spawn().unwrap();
        let open = |path| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (commands, pipe) = (open(&commands), open(&answers));
        let (say, answers) = mpsc::channel();
        thread::spawn(move || {
            for part in BufReader::new(pipe).split(0) {
                let Ok(message) = serde_json::from_slice(&part.unwrap()) else { return };
                if say.send(message).is_err() {
                    return;
                }
            }
        });
        let (loaded, complaints, session, number) = (Vec::new(), Vec::new(), None, 0);
        let mut browser =
            Self { child, commands, answers, session, number, loaded, complaints, _folder: folder };
        let tab = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let session = browser.ask("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left);
            let mut answer =
                answer.unwrap_or_else(|_| panic!("{CHROMIUM} did not answer {method}"));
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                self.loaded.push(parameters["request"]["url"].as_str().unwrap().to_owned());
            }
            "Runtime.exceptionThrown" => self.complaints.push(parameters.to_string()),
            // A refused request is no fault of the page.
            "Log.entryAdded" if parameters["entry"]["source"] != "network" => {
                self.complaints.push(parameters.to_string());
            }
            _ => {}
        }
    }

    pub fn open(&mut self, address: &str) {
        let opened = self.ask("Page.navigate", json!({ "url": address }));
        assert!(opened["errorText"].is_null(), "{opened}");
    }

    /// What this expression is in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut said = self.ask("Runtime.evaluate", asked);
        assert!(said["exceptionDetails"].is_null(), "{expression}: {said}");
        said["result"]["value"].take()
    }

    /// The text that a reader sees, without empty lines.
    pub fn text(&mut self) -> String {
        const TEXT: &str = "document.body ? document.body.innerText.replace(/\\n+/g, '\\n') : ''";
        self.value(TEXT).as_str().unwrap().to_owned()
    }

    /// Waits until a reader sees all of this.
    pub fn until(&mut self, wanted: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if wanted.iter().all(|words| text.contains(words)) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "{wanted:?} is not in {text}\n{:?}",
                self.complaints
            );
            // Between two looks: the browser has better things to do.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// As if the reader came back to its tab: it asks at once instead of in some seconds.
    pub fn look_again(&mut self) {
        self.value("void document.dispatchEvent(new Event('visibilitychange'))");
    }

    /// Types this into a field and sends its form off.
    pub fn enter(&mut self, field: &str, text: &str) {
        let (field, text) = (json!(field), json!(text));
        self.value(&format!(
            "(() => {{ const it = document.getElementById({field}); it.value = {text}; it.form.requestSubmit(); }})()"
        ));
    }

    /// A screen of this size, dark or light.
    pub fn screen(&mut self, width: u32, height: u32, mobile: bool, scheme: &str) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": scheme }));
    }

    /// The whole page as a PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.ask("Page.captureScreenshot", asked);
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its process group is of our own making.
        let _ = killpg(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
