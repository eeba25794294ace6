//! Tasks under supervision: each has a name and an owner, and no panic is lost.
//!
//! A panic in a task that the agent can't do without ends the agent, and is no clean stop: the kernel's table stays as
//! it is, and the exit code says so. A task that can do without its past is started again after a pause.

mod caught;
mod fault;
mod spawn;
mod task_set;

pub use self::task_set::{TaskKind, TaskName};
pub(crate) use self::{
    caught::caught,
    fault::unless_wanted,
    spawn::spawn,
    task_set::{Failure, Restartable, STOP, TaskSet},
};
