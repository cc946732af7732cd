//! A person confirms in a browser: a real one, which clicks what a person would.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::stand::{PATIENCE, Stand, condition_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_clicks_the_verification_in_a_browser_and_the_contact_becomes_ready() {
    let Some(browser) = Browser::open().await else {
        // Not by a macro, which would show it of a test that fails only.
        let line = "left out: the click in a browser, as chromium and chromedriver are not both \
                    here (apt-get install chromium chromium-driver)\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    };
    let stand = Stand::new().await;
    let wanted = json!({ "readyWhen": null, "verification": null });
    stand.apply("clicks", "Xiaoming", wanted).await;
    let object = stand.becomes("clicks", "Ready", "VerificationSent").await;
    assert_eq!(condition_of(&object, "Ready")["status"], "False");

    // That it is sent is written down before it is.
    stand.cloud("the mail", |it| (it.outbox().len() == 1).then_some(())).await;

    browser.go(&format!("{}/", stand.simulator.control())).await;
    let page = browser.text().await;
    assert!(page.contains("clicks@example.com"), "{page}");
    // The page is read again every two seconds: what was found may be gone before it is clicked.
    cluster::wait_for(PATIENCE, "the page says that it is confirmed", || async {
        if browser.text().await.contains("confirmed") {
            return Ok(());
        }
        Err(format!("{:?}", browser.click("button[name=message]").await))
    })
    .await
    .unwrap();

    let object = stand.becomes("clicks", "Ready", "InSync").await;
    assert_eq!(condition_of(&object, "EmailVerified")["status"], "True");
    assert_eq!(stand.simulator.outbox().len(), 1, "one mail, and one click");
    browser.close().await;
}

/// A browser without a window, driven by `WebDriver`: JSON over HTTP.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

/// The key of an element's id in an answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// `None`: there is none on this machine.
    async fn open() -> Option<Self> {
        let chromium = ["chromium", "chromium-browser", "google-chrome"];
        let chromium = chromium.into_iter().find_map(on_path)?;
        let mut driver = Command::new(on_path("chromedriver")?)
            .arg("--port=0")
            .stdout(Stdio::piped())
            // It has children, which end with it.
            .process_group(0)
            .spawn()
            .unwrap();
        let said = tokio::process::ChildStdout::from_std(driver.stdout.take().unwrap()).unwrap();
        let mut browser = Self { driver, port: 0, session: String::new() };
        let mut lines = BufReader::new(said).lines();
        while browser.port == 0 {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
            let line = line.unwrap();
            let line = line.unwrap_or_else(|| {
                panic!("chromedriver has ended: {:?}", browser.driver.try_wait())
            });
            let port = line.split("on port ").nth(1).filter(|_| line.contains("successfully"));
            browser.port = port.map_or(0, |port| port.trim_end_matches('.').parse().unwrap());
        }
        // Without a sandbox, which root has not; /dev/shm is small in many containers.
        let args = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
        let options = json!({ "binary": chromium, "args": args });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let opened = browser.ask("POST", "/session", &wanted).await.unwrap();
        browser.session = format!("/session/{}", opened["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn go(&self, url: &str) {
        let path = format!("{}/url", self.session);
        self.ask("POST", &path, &json!({ "url": url })).await.unwrap();
    }

    /// What a person reads on the page.
    async fn text(&self) -> String {
        let script = json!({ "script": "return document.body.innerText", "args": [] });
        let path = format!("{}/execute/sync", self.session);
        let text = self.ask("POST", &path, &script).await;
        text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Clicks the first such element.
    async fn click(&self, selector: &str) -> Result<(), Value> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let path = format!("{}/element", self.session);
        let found = self.ask("POST", &path, &wanted).await?;
        let path = format!("{path}/{}/click", found[ELEMENT].as_str().unwrap());
        self.ask("POST", &path, &json!({})).await.map(drop)
    }

    async fn close(&self) {
        self.ask("DELETE", &self.session, &Value::Null).await.unwrap();
    }

    /// The value of the answer, or what is wrong.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let exchange = async {
            let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
            stream.write_all(request.as_bytes()).await?;
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await? > 0 {}
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            // The driver keeps the connection open.
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).await?;
            std::io::Result::Ok((head, body))
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
        let (head, body) = answer.unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        let value = value["value"].clone();
        if head.starts_with("HTTP/1.1 200") { Ok(value) } else { Err(value["error"].clone()) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.driver.wait();
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
