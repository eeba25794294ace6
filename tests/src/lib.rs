//! The lab (namespaces, servers, clients, faults) that the scenarios run in.

pub mod packet;
