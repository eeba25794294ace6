//! Puts packets into the ingress of a device, as if they had come in there.

use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use lvs_common::{INJECT, map};

use super::{
    error::{PassiveError, program},
    programs::SECOND_CHANCE,
};

/// The smallest ring buffer: a page.
const EDGE_BYTES: u32 = 4096;
/// `struct __sk_buff` up to the end of `cb` (`include/uapi/linux/bpf.h`): 17 numbers, of which `cb` begins with the
/// thirteenth. What is left out is 0.
const CONTEXT: usize = 17;
/// See [`CONTEXT`].
const CB: usize = 12;

/// The program that does it. It is attached to nothing.
pub struct Injector {
    ebpf: Ebpf,
}

impl Injector {
    /// Loads the program. Its maps are not used, and as small as can be.
    pub fn load() -> Result<Self, PassiveError> {
        if SECOND_CHANCE.is_empty() {
            return Err(PassiveError::NotBuilt);
        }
        let mut ebpf = EbpfLoader::new()
            .override_global(aya_log::LEVEL, &0_u8, false)
            .map_max_entries(map::EDGES, EDGE_BYTES)
            .map_max_entries(map::KEPT_SYNS, 1)
            .map_max_entries(map::RETRIED, 1)
            .load(SECOND_CHANCE)
            .map_err(|error| PassiveError::Refused(Box::new(error)))?;
        program(&mut ebpf, INJECT)?
            .load()
            .map_err(|error| PassiveError::Program { program: INJECT, error: Box::new(error) })?;
        Ok(Self { ebpf })
    }

    /// Puts a frame into the ingress of the device with this index. Whether somebody then drops it can't be told.
    pub fn inject(&mut self, frame: &[u8], device: u32) -> Result<(), PassiveError> {
        let classifier: &mut SchedClassifier = program(&mut self.ebpf, INJECT)?;
        let mut context = [0_u32; CONTEXT];
        context[CB] = device;
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(bytemuck::bytes_of(&context)),
            ..TestRunOptions::new()
        };
        let result = classifier
            .test_run(options)
            .map_err(|error| PassiveError::Program { program: INJECT, error: Box::new(error) })?;
        if result.return_value == 0 { Ok(()) } else { Err(PassiveError::NotInjected { device }) }
    }
}
