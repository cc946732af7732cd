//! The directory simulator as a program.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use directory_simulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Options, Quotas, Simulator};
use tracing_subscriber::EnvFilter;

/// The cloud's side of a resource directory's message contacts, on one machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the API listens; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where the control port listens: outbox, confirmation, faults, counts
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8444")]
    control: SocketAddr,
    /// The access key that may call everything
    #[arg(long, value_name = "ID", default_value = ACCESS_KEY_ID)]
    access_key_id: String,
    /// Its secret; not a real one, please
    #[arg(long, value_name = "SECRET", default_value = ACCESS_KEY_SECRET)]
    access_key_secret: String,
    /// How long each call takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency: u64,
    /// How many contacts the directory may have
    #[arg(long, value_name = "COUNT", default_value_t = Quotas::default().contacts)]
    contacts: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let simulator = Simulator::start(Options {
        listen: arguments.listen,
        control: arguments.control,
        access_key_id: arguments.access_key_id,
        access_key_secret: arguments.access_key_secret,
        quotas: Quotas { contacts: arguments.contacts, ..Quotas::default() },
        latency: Duration::from_millis(arguments.latency),
        ..Options::default()
    })
    .await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "api      {}", simulator.endpoint())?;
    writeln!(stdout, "control  {}  (open it in a browser for the outbox)", simulator.control())?;
    stdout.flush()?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
