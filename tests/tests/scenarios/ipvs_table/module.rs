//! The kernel module `ip_vs`, unloaded and loaded again.

use std::{fs, process::Command, time::Instant};

use lvs_agent::ipvs::{Edit, IpvsClient, IpvsError, Table};

use super::{PATIENCE, connect, in_namespace, ipvsadm, ipvsadm_rules, plain_service, run, web};

/// What the kernel runs when it needs a module.
pub(crate) const LOADER: &str = "/proc/sys/kernel/modprobe";

/// The modules of IPVS that are loaded, `ip_vs` itself last.
fn ipvs_modules() -> Vec<String> {
    let modules = fs::read_to_string("/proc/modules").unwrap();
    let names = modules.lines().filter_map(|line| line.split(' ').next());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("ip_vs")).map(str::to_owned).collect();
    names.sort_by_key(|name| name == "ip_vs");
    names
}

/// Unloads all of IPVS. Takes as many tries as it needs: the kernel is slow to take the namespaces of earlier
/// tests apart, and a modprobe(8) may also fail where it could unload the module but not others that this one
/// needs.
pub(crate) fn unload_ipvs() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let modules = ipvs_modules();
        if modules.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still in use: {modules:?}");
        for module in &modules {
            Command::new("modprobe").args(["-r", module]).status().expect("modprobe(8) is needed");
        }
    }
}

#[test]
#[ignore = "unloads ip_vs, which all other tests need: to be run alone"]
fn a_module_that_is_loaded_anew_is_found_again() {
    in_namespace(|| async {
        let mut client = connect().await;
        let add = Edit::AddService(plain_service(web()));
        client.apply(&add).await.unwrap();
        ipvsadm("-C");
        unload_ipvs();
        run("modprobe", "ip_vs");
        client.apply(&add).await.unwrap();
        assert_eq!(ipvsadm_rules(), ["-A -t 192.0.2.1:80 -s rr"]);

        // Newer kernels load the module by themselves as soon as its family is asked for.
        ipvsadm("-C");
        unload_ipvs();
        let loader = fs::read_to_string(LOADER).unwrap();
        fs::write(LOADER, "/nonexistent").unwrap();
        let errors = [
            client.info().await.err(),
            client.apply(&add).await.err(),
            IpvsClient::connect(PATIENCE).await.err(),
        ];
        fs::write(LOADER, loader.trim()).unwrap();
        for error in errors {
            assert!(matches!(error, Some(IpvsError::NoIpvs)), "{error:?}");
        }
        run("modprobe", "ip_vs");
        assert_eq!(client.table().await.unwrap(), Table::default());
    });
}
