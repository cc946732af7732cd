//! A proxy in front of the apiserver that can stop a request at a certain moment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use cluster::Cluster;
use http::Method;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::process;

/// Which side of a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The apiserver never gets it.
    Before,
    /// The apiserver has done it, and the answer never comes.
    After,
}

/// What is held: the request after the first `skip` that match.
struct Hold {
    writes: bool,
    path: String,
    skip: u32,
    side: Side,
}

#[derive(Default)]
struct Gate {
    hold: Mutex<Option<Hold>>,
    reached: Notify,
    opened: Notify,
}

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

    /// Holds one write to a path that has this text in it, after the first `skip` of them.
    pub fn hold_write(&self, path: &str, skip: u32, side: Side) {
        self.hold(Hold { writes: true, path: path.to_owned(), skip, side });
    }

    /// Holds the first read of a path that has this text in it until [`Self::open`].
    pub fn hold_read(&self, path: &str) {
        self.hold(Hold { writes: false, path: path.to_owned(), skip: 0, side: Side::Before });
    }

    fn hold(&self, hold: Hold) {
        *self.gate.hold.lock().unwrap() = Some(hold);
    }

    /// Waits until a request is held.
    pub async fn reached(&self) {
        let held = self.gate.reached.notified();
        tokio::time::timeout(crate::stand::PATIENCE, held).await.expect("no request was held");
    }

    /// Lets the held request go on.
    pub fn open(&self) {
        self.gate.opened.notify_one();
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
    let side = gate.take(&request);
    if side == Some(Side::Before) {
        gate.hold_here().await;
    }
    let answer = match send(&client, request).await {
        Ok(answer) => answer,
        Err(error) => Response::builder().status(502).body(Body::from(error)).unwrap(),
    };
    if side == Some(Side::After) {
        gate.hold_here().await;
    }
    answer
}

async fn send(client: &Client, request: Request) -> Result<Response<Body>, String> {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|error| error.to_string())?;
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    for name in [http::header::HOST, http::header::CONTENT_LENGTH, http::header::AUTHORIZATION] {
        parts.headers.remove(name);
    }
    let request = http::Request::from_parts(parts, kube::client::Body::from(body));
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    Ok(answer.map(Body::new))
}

impl Gate {
    fn take(&self, request: &Request) -> Option<Side> {
        let mut waiting = self.hold.lock().unwrap();
        let hold = waiting.as_mut()?;
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        if reads == hold.writes || !request.uri().path().contains(&hold.path) {
            return None;
        }
        if hold.skip > 0 {
            hold.skip -= 1;
            return None;
        }
        waiting.take().map(|hold| hold.side)
    }

    async fn hold_here(&self) {
        self.reached.notify_one();
        self.opened.notified().await;
    }
}
