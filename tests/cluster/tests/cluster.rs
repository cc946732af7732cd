//! The control plane itself, before anything else is tested with it.

#![allow(clippy::disallowed_methods, reason = "the environment says where the programs are")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use cluster::{By, Cluster, Options, wait_for};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

async fn shared() -> Result<&'static Cluster> {
    prepare().await?;
    cluster::shared().await
}

/// Builds what any test here needs, in one go: what is built later has to begin anew.
async fn prepare() -> Result<()> {
    cluster::prepare(&everything()).await
}

/// Assets made by `setup-envtest` have no kube-controller-manager: they are tested without one.
fn has_controller_manager() -> bool {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS");
    assets.is_none_or(|assets| Path::new(&assets).join("kube-controller-manager").is_file())
}

fn everything() -> Options {
    Options { controller_manager: has_controller_manager(), ..Options::default() }
}

fn config_map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

#[tokio::test]
async fn it_answers_ready_with_its_real_version() -> Result<()> {
    let cluster = shared().await?;
    let client = cluster.client();
    let request = http::Request::get("/readyz").body(Vec::new())?;
    assert_eq!(client.request_text(request).await?, "ok");
    let version = client.apiserver_version().await?;
    let go_mod = include_str!("../../tools/kubernetes/go.mod");
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        assert!(go_mod.contains(&format!("k8s.io/kubernetes {}", version.git_version)));
    }
    Ok(())
}

#[tokio::test]
async fn each_namespace_has_a_name_of_its_own() -> Result<()> {
    let cluster = shared().await?;
    let first = cluster.namespace("twin").await?;
    let second = cluster.namespace("twin").await?;
    assert_ne!(first, second);
    let namespaces = Api::<Namespace>::all(cluster.client());
    for name in [first, second] {
        let namespace = namespaces.get(&name).await?;
        assert_eq!(namespace.status.and_then(|status| status.phase).as_deref(), Some("Active"));
    }
    Ok(())
}

#[tokio::test]
async fn the_audit_log_counts_exactly_the_writes_of_one_user() -> Result<()> {
    let cluster = shared().await?;
    let namespace = cluster.namespace("audit").await?;
    let author = cluster.client_as("writer", &["system:masters"]);
    let maps = Api::<ConfigMap>::namespaced(author, &namespace);
    let params = PostParams::default();
    let mark = cluster.audit().mark()?;

    maps.create(&params, &config_map("counted")).await?;
    maps.get("counted").await?;
    let labels = json!({"metadata": {"labels": {"colour": "green"}}});
    maps.patch("counted", &PatchParams::default(), &Patch::Merge(&labels)).await?;
    maps.list(&ListParams::default()).await?;
    // Neither a dry run nor somebody else's write counts; a refused one does.
    maps.create(&PostParams { dry_run: true, ..params.clone() }, &config_map("dry")).await?;
    let bystander = Api::<ConfigMap>::namespaced(cluster.client(), &namespace);
    bystander.create(&params, &config_map("uncounted")).await?;
    ensure!(maps.create(&params, &config_map("counted")).await.is_err(), "created twice");
    maps.delete("counted", &DeleteParams::default()).await?;

    let writes = cluster.audit().writes(mark, By::User("writer"))?;
    let seen: Vec<_> = writes.iter().map(|write| (write.verb.as_str(), write.code)).collect();
    assert_eq!(seen, [("create", 201), ("patch", 200), ("create", 409), ("delete", 200)]);
    assert!(writes.iter().all(|write| write.namespace == namespace), "{writes:#?}");
    assert!(writes.iter().all(|write| write.resource == "configmaps"), "{writes:#?}");
    let all = cluster.audit().since(mark)?;
    assert_eq!(all.iter().filter(|event| event.is_by(By::User("writer"))).count(), 7);
    Ok(())
}

#[tokio::test]
async fn an_impersonated_user_has_no_rights_of_its_own() -> Result<()> {
    let cluster = shared().await?;
    let namespace = cluster.namespace("nobody").await?;
    let mark = cluster.audit().mark()?;
    let maps = Api::<ConfigMap>::namespaced(cluster.client_as("nobody", &[]), &namespace);
    let refused = maps.list(&ListParams::default()).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    let events = cluster.audit().since(mark)?;
    assert!(events.iter().any(|event| event.user == "nobody" && event.code == 403), "{events:#?}");

    let path = cluster.kubeconfig_as("nobody", &[])?;
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let maps = Api::<ConfigMap>::namespaced(Client::try_from(config)?, &namespace);
    let refused = maps.list(&ListParams::default()).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn applied_definitions_can_be_used_at_once() -> Result<()> {
    let cluster = shared().await?;
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "kites.test.example.com"},
        "spec": {
            "group": "test.example.com",
            "names": {"kind": "Kite", "plural": "kites", "singular": "kite"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    }))?;
    cluster.apply_crds(std::slice::from_ref(&crd)).await?;
    cluster.apply_crds(&[crd]).await?;
    let request = http::Request::get("/apis/test.example.com/v1/kites").body(Vec::new())?;
    let answer = cluster.client().request_text(request).await?;
    assert!(answer.contains("KiteList"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn an_apiserver_that_comes_back_has_kept_everything() -> Result<()> {
    prepare().await?;
    let cluster = Cluster::start(Options::default()).await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.client(), "default");
    maps.create(&PostParams::default(), &config_map("kept")).await?;
    let mark = cluster.audit().mark()?;

    cluster.stop_apiserver();
    ensure!(maps.get("kept").await.is_err(), "a stopped apiserver answered");

    cluster.start_apiserver().await?;
    maps.get("kept").await?;
    let events = cluster.audit().since(mark)?;
    assert!(events.iter().any(|event| event.name == "kept" && event.verb == "get"), "{events:#?}");
    Ok(())
}

#[tokio::test]
async fn with_a_controller_manager_a_deleted_namespace_goes_away() -> Result<()> {
    if !has_controller_manager() {
        let left_out = "left out: deletion of a namespace; KUBEBUILDER_ASSETS has no manager";
        writeln!(std::io::stderr(), "{left_out}")?;
        return Ok(());
    }
    let cluster = Cluster::start(everything()).await?;
    let name = cluster.namespace("short-lived").await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.client(), &name);
    maps.create(&PostParams::default(), &config_map("inside")).await?;
    let namespaces = Api::<Namespace>::all(cluster.client());
    namespaces.delete(&name, &DeleteParams::default()).await?;
    wait_for(Duration::from_mins(1), "the namespace is gone", || async {
        match namespaces.get_opt(&name).await? {
            None => Ok(()),
            Some(namespace) => bail!("{:?}", namespace.status),
        }
    })
    .await
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_behind() -> Result<()> {
    prepare().await?;
    let mut holder = Command::new(env!("CARGO_BIN_EXE_test-cluster"));
    let mut names = vec!["etcd", "kube-apiserver"];
    if has_controller_manager() {
        holder.arg("--controller-manager");
        names.push("kube-controller-manager");
    }
    let mut holder = holder.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("no stdout")?).read_line(&mut line)?;
    let kubeconfig = line.trim().strip_prefix("KUBECONFIG=").context("it printed no path")?;
    let dir = Path::new(kubeconfig).parent().context("a path without a directory")?;
    let mut pids = Vec::new();
    for name in names {
        let pid = fs::read_to_string(dir.join(format!("{name}.pid")))?.trim().to_owned();
        ensure!(is_alive(&pid)?, "{name} does not run as {pid}");
        pids.push(pid);
    }

    holder.kill()?; // SIGKILL: nothing in the process can clean up.
    holder.wait()?;

    wait_for(Duration::from_secs(20), "all servers are gone", || async {
        for pid in &pids {
            ensure!(!is_alive(pid)?, "{pid} of {pids:?} is alive");
        }
        Ok(())
    })
    .await?;
    // The next one that starts removes the files.
    drop(Cluster::start(Options::default()).await?);
    assert!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

fn is_alive(pid: &str) -> Result<bool> {
    let status =
        Command::new("sh").args(["-c", "kill -0 \"$0\"", pid]).stderr(Stdio::null()).status()?;
    Ok(status.success())
}

#[tokio::test]
async fn dropping_a_cluster_removes_its_files_and_processes() -> Result<()> {
    prepare().await?;
    let cluster = Cluster::start(Options::default()).await?;
    let dir = cluster.dir().to_path_buf();
    let pid = fs::read_to_string(dir.join("kube-apiserver.pid"))?.trim().to_owned();
    drop(cluster);
    assert!(!dir.exists());
    assert!(!is_alive(&pid)?);
    Ok(())
}

#[tokio::test]
async fn an_apiserver_that_refuses_its_arguments_says_why() -> Result<()> {
    prepare().await?;
    let apiserver_args = vec!["--no-such-flag".to_owned()];
    let refused = Cluster::start(Options { apiserver_args, ..Options::default() }).await;
    let text = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(text.contains("kube-apiserver ended") && text.contains("no-such-flag"), "{text}");
    Ok(())
}
