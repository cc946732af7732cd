//! The API's listener: reads a request, walks the call through [`World`](crate::world::World),
//! writes what the client gets to see.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::faults::FaultKind;
use crate::handle::Shared;
use crate::http::Connection;
use crate::wire::Request;
use crate::world::Ending;

/// Takes connections until the task is aborted; they end with it.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        let ended = match Connection::new(stream) {
                            Ok(connection) => converse(connection, &shared).await,
                            Err(error) => Err(error),
                        };
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be taken");
                    sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut connection: Connection, shared: &Shared) -> io::Result<()> {
    while let Some(incoming) = connection.read().await? {
        shared.lock().world.counts.bytes_in += incoming.bytes as u64;
        let (answer, body_bytes) = match answer(&incoming.request, shared).await {
            Ending::Whole(answer) => (answer, usize::MAX),
            Ending::Cut(answer, bytes) => (answer, bytes),
            Ending::Closed => return connection.close().await,
            Ending::Reset => return connection.reset(),
        };
        let written = connection.write(&answer, body_bytes, incoming.keep_alive).await?;
        shared.lock().world.counts.bytes_out += written as u64;
        if !incoming.keep_alive || body_bytes < answer.body.len() {
            return connection.close().await;
        }
    }
    Ok(())
}

/// Half of the latency is spent before the operation is done and half after it. The client's
/// leaving changes nothing. The call ends before its answer is written: whoever has read an answer
/// can start the next call without overlapping this one.
async fn answer(request: &Request, shared: &Shared) -> Ending {
    let (mut call, latency) = {
        let mut state = shared.lock();
        let now = state.now();
        (state.world.arrive(request, now), state.latency)
    };
    let (before_ms, after_ms) = match call.fault {
        Some(FaultKind::Delay { before_ms, after_ms }) => (before_ms, after_ms),
        _ => (0, 0),
    };
    pause(latency / 2 + Duration::from_millis(before_ms)).await;
    if call.fault == Some(FaultKind::Hang { executed: false }) {
        shared.released().await;
    }
    let answer = {
        let mut state = shared.lock();
        let now = state.now();
        state.world.execute(&mut call, now)
    };
    if call.fault == Some(FaultKind::Hang { executed: true }) {
        shared.released().await;
    }
    pause(latency / 2 + Duration::from_millis(after_ms)).await;
    let mut state = shared.lock();
    let now = state.now();
    state.world.end(call, answer, now)
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}
