//! Two proxies, one in front of the apiserver and one in front of the cloud, that count the writes
//! of one operator together and end something at one of them.
//!
//! Every request that is no read counts, Events included: whoever is killed may be killed there as
//! well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Method, header};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, Resource as _};
use message_contact_operator::api::{MessageContact, ResourceDirectory};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::process;
use crate::proxy;
use crate::stand::Stand;

/// Which side of a write something happens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The other side never gets it.
    Before,
    /// The other side has done it, and its answer never comes.
    After,
}

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It stands still, and every later one with it, until the operator is killed.
    Killed,
    /// Its connection is closed without an answer.
    Lost,
}

/// The write at which something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub write: Which,
    /// Whether it is done first.
    pub side: Side,
    pub mishap: Mishap,
}

/// A write after the gate was armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Counted from 0.
    Nth(usize),
    /// The first one of that kind.
    First(String),
}

/// What the gate does with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Ends(Side, Mishap),
    /// Something before it stands still.
    Waits,
}

#[derive(Default)]
struct Count {
    armed: bool,
    point: Option<Point>,
    frozen: bool,
    /// What was written, in the order in which it arrived.
    writes: Vec<String>,
    /// The kind of write at which it happened.
    reached: Option<String>,
}

/// The writes of directories' statuses that carry how many messages were sent.
#[derive(Default)]
struct Books {
    /// Their bodies, in the order in which they arrived.
    written: Vec<Value>,
    /// How many more of them are refused, as if somebody else had been faster.
    conflicts: usize,
}

struct Shared {
    books: Mutex<Books>,
    /// Whether the apiserver is out of reach.
    is_cut: watch::Sender<bool>,
    count: Mutex<Count>,
    /// Rings when the count has changed.
    told: Notify,
    apiserver: Client,
    cloud: reqwest::Client,
    cloud_origin: String,
    /// The collections that the operator sees a part of, and that part.
    views: BTreeMap<String, View>,
}

/// The part of a collection that the operator sees.
enum View {
    Namespace(String),
    OneObject(String),
}

/// Both proxies of one operator. They end when dropped.
pub struct Gate {
    shared: Arc<Shared>,
    apiserver: SocketAddr,
    cloud: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Gate {
    /// For the operator of that stand: in its cluster nothing is but the stand's namespace and
    /// directory. So a cluster can hold any number of operators that know nothing of each other.
    pub async fn start(stand: &Stand) -> Self {
        let views = BTreeMap::from([
            (MessageContact::url_path(&(), None), View::Namespace(stand.namespace.clone())),
            (ResourceDirectory::url_path(&(), None), View::OneObject(stand.directory.clone())),
            (Namespace::url_path(&(), None), View::OneObject(stand.namespace.clone())),
        ]);
        let shared = Arc::new(Shared {
            books: Mutex::default(),
            is_cut: watch::Sender::new(false),
            count: Mutex::default(),
            told: Notify::new(),
            apiserver: stand.cluster.client(),
            cloud: reqwest::Client::builder().no_proxy().build().unwrap(),
            cloud_origin: stand.simulator.endpoint(),
            views,
        });
        let (apiserver, to_apiserver) = serve(&shared, |shared, request| {
            Box::pin(async move { shared.pass_to_apiserver(request).await })
        })
        .await;
        let (cloud, to_cloud) = serve(&shared, |shared, request| {
            Box::pin(async move { shared.pass_to_cloud(request).await })
        })
        .await;
        Self { shared, apiserver, cloud, tasks: [to_apiserver, to_cloud] }
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        process::kubeconfig(&format!("http://{}", self.apiserver))
    }

    /// The endpoint that leads to the simulator.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.cloud)
    }

    /// Counts from now, and lets that happen.
    pub fn arm(&self, point: Option<Point>) {
        *self.shared.count() = Count { armed: true, point, ..Count::default() };
    }

    /// The apiserver cannot be reached, until [`Self::mend`].
    pub fn cut(&self) {
        self.shared.is_cut.send_replace(true);
    }

    /// The apiserver can be reached again.
    pub fn mend(&self) {
        self.shared.is_cut.send_replace(false);
    }

    /// The next writes of how many messages a directory has sent are answered 409.
    pub fn books_conflict(&self, times: usize) {
        self.shared.books.lock().unwrap().conflicts = times;
    }

    /// What was written of how many messages a directory has sent, refused or not.
    pub fn books(&self) -> Vec<Value> {
        self.shared.books.lock().unwrap().written.clone()
    }

    /// Waits until everything stands still at the point.
    pub async fn stands_still(&self) {
        self.until(|count| count.frozen && count.reached.is_some()).await;
    }

    /// Waits until something of that kind was written, or the point is reached.
    pub async fn wrote(&self, kind: &str) {
        let wrote = |count: &Count| count.writes.iter().any(|write| write == kind);
        self.until(|count| wrote(count) || count.reached.is_some()).await;
    }

    /// Nothing more happens from now. Says whether it has begun to.
    pub fn disarm(&self) -> bool {
        let mut count = self.shared.count();
        count.point = None;
        count.frozen
    }

    async fn until(&self, look: impl Fn(&Count) -> bool) {
        loop {
            let told = self.shared.told.notified();
            if look(&self.shared.count()) {
                return;
            }
            told.await;
        }
    }

    /// The kind of write at which the point was reached, if it was.
    pub fn reached(&self) -> Option<String> {
        self.shared.count().reached.clone()
    }

    /// What was written since it was armed.
    pub fn writes(&self) -> Vec<String> {
        self.shared.count().writes.clone()
    }

    /// The next operator's writes pass. What stood still never goes on.
    pub fn thaw(&self) {
        self.shared.count().frozen = false;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

type Pass = fn(Arc<Shared>, Request) -> BoxFuture<'static, Response<Body>>;

async fn serve(shared: &Arc<Shared>, pass: Pass) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = move |State(shared): State<Arc<Shared>>, request: Request| pass(shared, request);
    let router = Router::new().fallback(handler).with_state(Arc::clone(shared));
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, task)
}

impl Shared {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap()
    }

    async fn pass_to_apiserver(&self, request: Request) -> Response<Body> {
        let mut is_cut = self.is_cut.subscribe();
        if *is_cut.borrow() {
            hang_up();
        }
        let write = (request.method() != Method::GET).then(|| written(&request));
        let (request, conflicts) = self.booked(self.narrowed(request), write.as_deref()).await;
        let forward = async {
            if conflicts {
                return conflict();
            }
            match proxy::send(&self.apiserver, request).await {
                Ok(answer) => answer,
                Err(error) => bad_gateway(error),
            }
        };
        let answer = self.pass(write, forward).await;
        if *is_cut.borrow() {
            hang_up();
        }
        // A watch goes on until then.
        answer.map(|body| {
            let cut = async move { is_cut.wait_for(|cut| *cut).await.map(drop) };
            Body::from_stream(body.into_data_stream().take_until(Box::pin(cut)))
        })
    }

    /// Notes what is written of how many messages were sent, and whether that is refused.
    async fn booked(&self, request: Request, write: Option<&str>) -> (Request, bool) {
        if write != Some("PATCH resourcedirectories/status") {
            return (request, false);
        }
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let patch: Value = serde_json::from_slice(&body).unwrap();
        let request = Request::from_parts(parts, Body::from(body));
        if patch["status"]["verificationSends"].is_null() {
            return (request, false);
        }
        let mut books = self.books.lock().unwrap();
        books.written.push(patch);
        let conflicts = books.conflicts > 0;
        books.conflicts = books.conflicts.saturating_sub(1);
        (request, conflicts)
    }

    async fn pass_to_cloud(&self, request: Request) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let action = action(&body);
        let reads = ["Get", "List"].iter().any(|word| action.starts_with(word));
        let forward = async {
            let url = format!("{}{}", self.cloud_origin, parts.uri.path_and_query().unwrap());
            let call = self.cloud.request(parts.method, url).headers(parts.headers).body(body);
            match call.send().await {
                Ok(answer) => whole(answer).await,
                Err(error) => bad_gateway(error.to_string()),
            }
        };
        self.pass((!reads).then(|| format!("cloud {action}")), forward).await
    }

    /// Lets a request pass, unless something happens at it.
    async fn pass(
        &self,
        write: Option<String>,
        forward: impl Future<Output = Response<Body>>,
    ) -> Response<Body> {
        let (fate, label) = match write {
            Some(label) => {
                let fate = self.count().next(&label);
                self.told.notify_waiters();
                (fate, label)
            }
            None => (Fate::Passes, String::new()),
        };
        let mishap = match fate {
            Fate::Passes => return forward.await,
            Fate::Waits => return std::future::pending().await,
            Fate::Ends(Side::Before, mishap) => mishap,
            Fate::Ends(Side::After, mishap) => {
                drop(forward.await);
                mishap
            }
        };
        self.count().reached = Some(label);
        self.told.notify_waiters();
        match mishap {
            Mishap::Killed => std::future::pending().await,
            Mishap::Lost => hang_up(),
        }
    }

    /// The request for what the operator is to see.
    fn narrowed(&self, mut request: Request) -> Request {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let narrowed = match self.views.get(uri.path()) {
            None => return request,
            Some(View::Namespace(namespace)) => {
                let (group, collection) = uri.path().rsplit_once('/').unwrap();
                format!("{group}/namespaces/{namespace}/{collection}?{query}")
            }
            Some(View::OneObject(name)) => {
                format!("{}?{query}&fieldSelector=metadata.name%3D{name}", uri.path())
            }
        };
        *request.uri_mut() = narrowed.parse().unwrap();
        request
    }
}

impl Count {
    fn next(&mut self, label: &str) -> Fate {
        if self.frozen {
            return Fate::Waits;
        }
        if !self.armed {
            return Fate::Passes;
        }
        self.writes.push(label.to_owned());
        let number = self.writes.len() - 1;
        let is_it = |point: &mut Point| match &point.write {
            Which::Nth(nth) => *nth == number,
            Which::First(kind) => kind == label,
        };
        let Some(point) = self.point.take_if(is_it) else { return Fate::Passes };
        self.frozen = point.mishap == Mishap::Killed;
        Fate::Ends(point.side, point.mishap)
    }
}

/// Verb, collection and subresource of a write to the apiserver.
fn written(request: &Request) -> String {
    let mut parts: Vec<_> = request.uri().path().split('/').skip(1).collect();
    let version = if parts[0] == "api" { 2 } else { 3 };
    parts.drain(..version);
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    if parts.len() > 1 {
        // The name.
        parts.remove(1);
    }
    format!("{} {}", request.method(), parts.join("/"))
}

/// The operation in a form.
fn action(form: &Bytes) -> String {
    let form = String::from_utf8_lossy(form);
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
    action.expect("every call names its operation").to_owned()
}

async fn whole(answer: reqwest::Response) -> Response<Body> {
    let mut whole = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != header::CONNECTION && name != header::CONTENT_LENGTH {
            whole = whole.header(name, value);
        }
    }
    whole.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// Closes the connection without an answer: ends the task that serves it and nothing else, and prints
/// nothing.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("the connection is closed"))
}

/// What the apiserver answers to a write of what was read too long ago.
fn conflict() -> Response<Body> {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the object has been modified", "reason": "Conflict", "code": 409 });
    let answer = Response::builder().status(409).header(header::CONTENT_TYPE, "application/json");
    answer.body(Body::from(status.to_string())).unwrap()
}

fn bad_gateway(error: String) -> Response<Body> {
    Response::builder().status(502).body(Body::from(error)).unwrap()
}
