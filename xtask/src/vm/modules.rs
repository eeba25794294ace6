//! Which kernel modules must be loaded, and in what order, by the lists that `depmod` writes.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

/// The files to load for the wanted modules, each after what it depends on; those built into the kernel are left out.
///
/// `dependencies` is `modules.dep` (`FILE: FILE…`), `builtin` is `modules.builtin` (`FILE`). Both name files below the
/// modules' directory.
pub(super) fn load_order(dependencies: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let mut files: HashMap<String, (&str, Vec<&str>)> = HashMap::new();
    for line in dependencies.lines() {
        if let Some((file, needs)) = line.split_once(':') {
            files.insert(name(file), (file, needs.split_whitespace().collect()));
        }
    }
    let is_builtin = |module: &str| builtin.lines().any(|file| name(file) == name(module));
    let mut order = Vec::new();
    for module in wanted {
        if !is_builtin(module) {
            add(&name(module), &files, &mut order).with_context(|| format!("cannot load {module}"))?;
        }
    }
    Ok(order)
}

/// Adds one module after what it needs, unless it is in the order already.
fn add(module: &str, files: &HashMap<String, (&str, Vec<&str>)>, order: &mut Vec<String>) -> Result<()> {
    let (file, needs) = files.get(module).with_context(|| format!("the kernel has no module {module}"))?;
    if order.iter().any(|loaded| loaded == file) {
        return Ok(());
    }
    for needed in needs {
        add(&name(needed), files, order)?;
    }
    order.push((*file).to_owned());
    Ok(())
}

/// A module's name as the kernel knows it: without directory and ending, and with underscores.
fn name(file: &str) -> String {
    let file = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko
kernel/fs/fscache/fscache.ko:
kernel/net/9p/9pnet.ko:
kernel/net/9p/9pnet-virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
";

    #[test]
    fn needs_come_first_and_once() {
        let order = load_order(DEPENDENCIES, "", &["9pnet_virtio", "9p"]).expect("all there");
        let expected = [
            "kernel/net/9p/9pnet.ko",
            "kernel/drivers/virtio/virtio_ring.ko",
            "kernel/net/9p/9pnet-virtio.ko",
            "kernel/fs/fscache/fscache.ko",
            "kernel/fs/9p/9p.ko",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn built_in_modules_are_not_loaded() {
        let order = load_order(DEPENDENCIES, "kernel/fs/9p/9p.ko\n", &["9p", "9pnet"]).expect("all there");
        assert_eq!(order, ["kernel/net/9p/9pnet.ko"]);
    }

    #[test]
    fn a_module_that_is_nowhere_is_an_error() {
        let error = load_order(DEPENDENCIES, "", &["ip_vs"]).expect_err("not there");
        assert!(format!("{error:#}").contains("ip_vs"));
    }
}
