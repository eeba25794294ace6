//! Edits that the kernel refuses: the error says what is wrong and where.

use std::{env, fmt, process::Command};

use lvs_agent::{
    ipvs::{Conflict, Destination, Edit, IpvsClient, IpvsError, KernelWeight, Service},
    model::DestinationKey,
};

use super::{connect, in_namespace, ipvsadm_rules, plain_destination, plain_service, scheduler, web};

/// Checks that an edit fails, and that the error says so in the expected words.
async fn refused(client: &mut IpvsClient, edit: Edit, is: fn(&IpvsError) -> bool, words: &[&str]) {
    let error = client.apply(&edit).await.expect_err("refused");
    let text = error.to_string();
    assert!(is(&error), "{edit}: {error:?}");
    for word in words {
        assert!(text.contains(word), "{edit}: {word:?} in: {text}");
    }
}

#[test]
fn refusals_say_what_is_wrong_and_where() {
    use IpvsError::{Conflict as Other, NoScheduler, NoSchedulerOrEngine, Refused};
    in_namespace(|| async {
        let mut client = connect().await;
        let client = &mut client;
        let service = web();
        let destination = plain_destination("10.0.0.1:80");
        let key = DestinationKey { service, server: destination.server };
        let add = || Edit::AddService(plain_service(web()));
        let set = || Edit::SetDestination { service, destination };
        let add_server = || Edit::AddDestination { service, destination };
        let missing = |error: &IpvsError| matches!(error, Other(Conflict::ServiceMissing(_)));
        let named = ["tcp 192.0.2.1:80"];
        for edit in [set(), add_server(), Edit::DeleteDestination(key), Edit::DeleteService(service)] {
            refused(client, edit, missing, &named).await;
        }
        refused(client, Edit::SetService(plain_service(web())), missing, &named).await;

        let unknown = Service { scheduler: scheduler("nosuch"), ..plain_service(web()) };
        let words = ["\"nosuch\"", "modprobe ip_vs_nosuch", "tcp 192.0.2.1:80"];
        refused(
            client,
            Edit::AddService(unknown.clone()),
            |error| matches!(error, NoScheduler { .. }),
            &words,
        )
        .await;
        let engine = Service { persistence_engine: Some("nosuch".to_owned()), ..plain_service(web()) };
        let is = |error: &IpvsError| matches!(error, NoSchedulerOrEngine { .. });
        refused(client, Edit::AddService(engine), is, &["ip_vs_pe_nosuch"]).await;

        client.apply(&add()).await.unwrap();
        refused(client, Edit::SetService(unknown), |error| matches!(error, NoScheduler { .. }), &words).await;
        refused(client, add(), |error| matches!(error, Other(Conflict::ServiceExists(_))), &named).await;
        let missing = |error: &IpvsError| matches!(error, Other(Conflict::DestinationMissing(_)));
        let named = ["tcp 192.0.2.1:80 -> 10.0.0.1:80"];
        for edit in [set(), Edit::DeleteDestination(key)] {
            refused(client, edit, missing, &named).await;
        }
        client.apply(&add_server()).await.unwrap();
        refused(client, add_server(), |error| matches!(error, Other(Conflict::DestinationExists(_))), &named)
            .await;

        let negative = Destination { weight: KernelWeight(-1), ..destination };
        let edit = Edit::SetDestination { service, destination: negative };
        refused(client, edit, |error| matches!(error, Refused { .. }), &["weight", "10.0.0.1:80"]).await;
        let across = plain_destination("[2001:db8::2]:80");
        let edit = Edit::AddDestination { service, destination: across };
        refused(client, edit, |error| matches!(error, Refused { .. }), &["IP version", "[2001:db8::2]:80"])
            .await;
        assert_eq!(
            ipvsadm_rules(),
            ["-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1"]
        );
    });
}

/// Says to the program that runs this test again that it is without privileges.
const WITHOUT: &str = "LVS_TEST_WITHOUT_NET_ADMIN";

#[test]
fn without_privileges_the_error_says_which_are_needed() {
    if env::var_os(WITHOUT).is_none() {
        // A test's name is its path within the crate.
        let (_crate, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::without_privileges_the_error_says_which_are_needed");
        let output = Command::new("setpriv")
            .args(["--inh-caps", "-net_admin", "--bounding-set", "-net_admin"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(WITHOUT, "1")
            .output();
        let output = output.expect("setpriv(1) of util-linux is needed");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = connect().await;
        let says = |error: &dyn fmt::Display| error.to_string().contains("needs root or CAP_NET_ADMIN");
        let error = client.info().await.unwrap_err();
        assert!(says(&error), "{error}");
        let error = client.table().await.unwrap_err();
        assert!(says(&error), "{error}");
        let error = client.apply(&Edit::DeleteService(web())).await.unwrap_err();
        assert!(says(&error) && error.to_string().contains("192.0.2.1:80"), "{error}");
    });
}
