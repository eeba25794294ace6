//! A classifier that does nothing, on the hooks on which the agent's programs hang: what being attached costs by
//! itself.

use std::{env, fs};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType, tc, tc::SchedClassifierLinkId},
    util::KernelVersion,
};

/// The environment variable that names the object file with the references to measure against.
const OBJECT_VARIABLE: &str = "LVS_REFERENCE_OBJECT";
/// The classifier's name there.
const NAME: &str = "reference_empty";

/// The loaded classifier, and where it hangs.
pub struct NoopProgram {
    ebpf: Ebpf,
    links: Vec<SchedClassifierLinkId>,
}

impl NoopProgram {
    /// Loads it; it is attached to nothing yet.
    pub fn load() -> Result<Self> {
        let path = env::var_os(OBJECT_VARIABLE)
            .with_context(|| format!("{OBJECT_VARIABLE} is to name the references' object"))?;
        let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut program = Self { ebpf: Ebpf::load(&object)?, links: Vec::new() };
        program.classifier()?.load()?;
        Ok(program)
    }

    /// Attaches it to a device in both directions, as the agent does: by tcx, or on a clsact qdisc.
    pub fn attach(&mut self, device: &str) -> Result<()> {
        // From this version on `attach` takes tcx, which needs no qdisc.
        if KernelVersion::current()? < KernelVersion::new(6, 6, 0) {
            tc::qdisc_add_clsact(device)?;
        }
        for direction in [TcAttachType::Egress, TcAttachType::Ingress] {
            let link = self.classifier()?.attach(device, direction)?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Takes it off again. The qdisc stays.
    pub fn detach(&mut self) -> Result<()> {
        for link in std::mem::take(&mut self.links) {
            self.classifier()?.detach(link)?;
        }
        Ok(())
    }

    fn classifier(&mut self) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(NAME).with_context(|| format!("the object has no {NAME}"))?;
        Ok(program.try_into()?)
    }
}
