//! A proxy in front of the apiserver that can hold a read, or end watches.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use cluster::Cluster;
use futures::{StreamExt, stream};
use http::Method;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::process;

/// What is held: the first read of a path that has that text in it.
struct Hold {
    path: String,
    bell: Arc<Bell>,
}

/// Rings when a request is held, and when it may go on. One for each hold: a ring that nobody heard,
/// because its caller was killed, must not open the next.
#[derive(Default)]
struct Bell {
    reached: Notify,
    opened: Notify,
}

#[derive(Default)]
struct Gate {
    hold: Mutex<Option<Hold>>,
    bell: Mutex<Arc<Bell>>,
    /// The collections that cannot be watched or listed now, by the end of their path.
    expired: watch::Sender<Vec<&'static str>>,
    writes: Mutex<Vec<String>>,
}

/// Lists come in pages of so many objects: how the apiserver may do with any list.
const PAGE: u32 = 5;

/// What each page after the first takes: enough for whoever acts upon half a list to do so.
const NEXT_PAGE_AFTER: Duration = Duration::from_millis(200);

/// The apiserver no longer has the history that a watch is to go on from.
const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}
"#;

/// A running proxy; ends when dropped.
pub struct Proxy {
    gate: Arc<Gate>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// In front of that cluster, with an administrator's rights.
    pub async fn start(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate::default());
        let state = (cluster.client(), Arc::clone(&gate));
        let router = Router::new().fallback(forward).with_state(state);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { gate, address, task }
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        process::kubeconfig(&format!("http://{}", self.address))
    }

    /// Holds the first read of a path that has this text in it until [`Self::open`].
    pub fn hold_read(&self, path: &str) {
        let bell = Arc::<Bell>::default();
        *self.gate.bell.lock().unwrap() = Arc::clone(&bell);
        *self.gate.hold.lock().unwrap() = Some(Hold { path: path.to_owned(), bell });
    }

    /// A client that comes through here.
    pub fn client(&self) -> Client {
        let address = format!("http://{}", self.address).parse().unwrap();
        Client::try_from(kube::Config::new(address)).unwrap()
    }

    /// Ends the watches of these collections with `410 Expired`: they must be listed again, and
    /// cannot be before [`Self::resume`].
    pub fn expire(&self, collections: &[&'static str]) {
        self.gate.expired.send_replace(collections.to_vec());
    }

    /// Lets collections be listed and watched again.
    pub fn resume(&self) {
        self.gate.expired.send_replace(Vec::new());
    }

    /// The paths that were written to.
    pub fn writes(&self) -> Vec<String> {
        self.gate.writes.lock().unwrap().clone()
    }

    fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.gate.bell.lock().unwrap())
    }

    /// Waits until a request is held.
    pub async fn reached(&self) {
        let bell = self.bell();
        let held = bell.reached.notified();
        tokio::time::timeout(crate::stand::PATIENCE, held).await.expect("no request was held");
    }

    /// Lets the held request go on. Until then it waits, or ends with its caller's connection.
    pub fn open(&self) {
        self.bell().opened.notify_one();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    State((client, gate)): State<(Client, Arc<Gate>)>,
    request: Request,
) -> Response<Body> {
    let held = gate.take(&request);
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if request.method() == Method::GET {
        let mut expired = gate.expired.subscribe();
        let _ = expired.wait_for(|expired| !holds(expired, &path)).await;
        if query.contains("continue=") {
            tokio::time::sleep(NEXT_PAGE_AFTER).await;
        }
    } else {
        gate.writes.lock().unwrap().push(path.clone());
    }
    if let Some(bell) = &held {
        bell.hold_here().await;
    }
    let answer = match send(&client, request).await {
        Ok(answer) => answer,
        Err(error) => Response::builder().status(502).body(Body::from(error)).unwrap(),
    };
    if query.contains("watch=true") { until_expired(answer, &gate, path) } else { answer }
}

fn holds(expired: &[&'static str], path: &str) -> bool {
    expired.iter().any(|collection| path.ends_with(collection))
}

fn until_expired(answer: Response<Body>, gate: &Gate, path: String) -> Response<Body> {
    let (mut first, then) = (gate.expired.subscribe(), gate.expired.subscribe());
    let until = path.clone();
    let ended = async move { first.wait_for(|expired| holds(expired, &until)).await.map(drop) };
    let last = stream::once(async move { holds(&then.borrow(), &path) })
        .filter_map(async |expired| expired.then(|| Ok(Bytes::from_static(EXPIRED.as_bytes()))));
    answer.map(|body| {
        let events = body.into_data_stream().take_until(Box::pin(ended));
        Body::from_stream(events.chain(last))
    })
}

/// Sends a request on; lists come in pages of [`PAGE`].
pub async fn send(client: &Client, request: Request) -> Result<Response<Body>, String> {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|error| error.to_string())?;
    let target = parts.uri.path_and_query().unwrap().as_str();
    parts.uri = target.replace("limit=500", &format!("limit={PAGE}")).parse().unwrap();
    for name in [http::header::HOST, http::header::CONTENT_LENGTH, http::header::AUTHORIZATION] {
        parts.headers.remove(name);
    }
    let request = http::Request::from_parts(parts, kube::client::Body::from(body));
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    Ok(answer.map(Body::new))
}

impl Gate {
    fn take(&self, request: &Request) -> Option<Arc<Bell>> {
        let is_it = |hold: &mut Hold| {
            request.method() == Method::GET && request.uri().path().contains(&hold.path)
        };
        self.hold.lock().unwrap().take_if(is_it).map(|hold| hold.bell)
    }
}

impl Bell {
    async fn hold_here(&self) {
        self.reached.notify_one();
        self.opened.notified().await;
    }
}
