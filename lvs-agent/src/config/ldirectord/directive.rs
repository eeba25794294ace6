//! The directives: their names, where they belong, and how ldirectord finds their values.

/// A directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Directive {
    Virtual,
    Virtual6,
    Autoreload,
    Callback,
    Checkcommand,
    Checkcount,
    Checkinterval,
    Checkport,
    Checktimeout,
    Checktype,
    Cleanstop,
    Comment,
    Connecttimeout,
    Database,
    Emailalert,
    Emailalertfreq,
    Emailalertfrom,
    Emailalertstatus,
    Execute,
    Failurecount,
    Fallback,
    Fallback6,
    Fallbackcommand,
    Fork,
    Httpmethod,
    Load,
    Logfile,
    Login,
    Maintenancedir,
    Monitorfile,
    Negotiatetimeout,
    Netmask,
    Ops,
    Passwd,
    Persistent,
    Protocol,
    Quiescent,
    Readdquiescent,
    Real,
    Real6,
    Receive,
    Request,
    Schedflags,
    Scheduler,
    Secret,
    Service,
    Servicename,
    Smtp,
    Supervised,
    Timeout,
    Virtualhost,
}

/// Where a directive belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The beginning of a virtual service.
    Head,
    Global,
    Virtual,
    Both,
}

/// How ldirectord finds the value of a directive in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Something at the beginning, or the first run of such characters; the rest doesn't count.
    First,
    /// The whole rest, which must be exactly one of some words.
    Exact,
    /// What is in quotes, which must be there.
    Quoted,
    /// The whole rest, whatever it is.
    Rest,
}

use Directive as D;

const TABLE: &[(&str, Directive, Scope, Form)] = &[
    ("virtual", D::Virtual, Scope::Head, Form::First),
    ("virtual6", D::Virtual6, Scope::Head, Form::First),
    ("autoreload", D::Autoreload, Scope::Global, Form::Exact),
    ("callback", D::Callback, Scope::Global, Form::Quoted),
    ("checkcommand", D::Checkcommand, Scope::Virtual, Form::Rest),
    ("checkcount", D::Checkcount, Scope::Both, Form::First),
    ("checkinterval", D::Checkinterval, Scope::Both, Form::First),
    ("checkport", D::Checkport, Scope::Virtual, Form::First),
    ("checktimeout", D::Checktimeout, Scope::Both, Form::First),
    ("checktype", D::Checktype, Scope::Virtual, Form::First),
    ("cleanstop", D::Cleanstop, Scope::Both, Form::Exact),
    ("comment", D::Comment, Scope::Virtual, Form::Rest),
    ("connecttimeout", D::Connecttimeout, Scope::Both, Form::First),
    ("database", D::Database, Scope::Virtual, Form::Quoted),
    ("emailalert", D::Emailalert, Scope::Both, Form::Rest),
    ("emailalertfreq", D::Emailalertfreq, Scope::Both, Form::First),
    ("emailalertfrom", D::Emailalertfrom, Scope::Global, Form::Rest),
    ("emailalertstatus", D::Emailalertstatus, Scope::Both, Form::Exact),
    ("execute", D::Execute, Scope::Global, Form::Rest),
    ("failurecount", D::Failurecount, Scope::Both, Form::First),
    ("fallback", D::Fallback, Scope::Both, Form::Exact),
    ("fallback6", D::Fallback6, Scope::Both, Form::Exact),
    ("fallbackcommand", D::Fallbackcommand, Scope::Both, Form::Rest),
    ("fork", D::Fork, Scope::Global, Form::Exact),
    ("httpmethod", D::Httpmethod, Scope::Virtual, Form::First),
    ("load", D::Load, Scope::Virtual, Form::Quoted),
    ("logfile", D::Logfile, Scope::Global, Form::Quoted),
    ("login", D::Login, Scope::Virtual, Form::Quoted),
    ("maintenancedir", D::Maintenancedir, Scope::Global, Form::Rest),
    ("monitorfile", D::Monitorfile, Scope::Virtual, Form::Rest),
    ("negotiatetimeout", D::Negotiatetimeout, Scope::Both, Form::First),
    ("netmask", D::Netmask, Scope::Virtual, Form::Exact),
    ("ops", D::Ops, Scope::Virtual, Form::Exact),
    ("passwd", D::Passwd, Scope::Virtual, Form::Quoted),
    ("persistent", D::Persistent, Scope::Virtual, Form::First),
    ("protocol", D::Protocol, Scope::Virtual, Form::First),
    ("quiescent", D::Quiescent, Scope::Both, Form::Exact),
    ("readdquiescent", D::Readdquiescent, Scope::Global, Form::Exact),
    ("real", D::Real, Scope::Virtual, Form::Rest),
    ("real6", D::Real6, Scope::Virtual, Form::Rest),
    ("receive", D::Receive, Scope::Virtual, Form::Quoted),
    ("request", D::Request, Scope::Virtual, Form::Quoted),
    ("schedflags", D::Schedflags, Scope::Virtual, Form::First),
    ("scheduler", D::Scheduler, Scope::Virtual, Form::First),
    ("secret", D::Secret, Scope::Virtual, Form::Quoted),
    ("service", D::Service, Scope::Virtual, Form::First),
    ("servicename", D::Servicename, Scope::Virtual, Form::Rest),
    ("smtp", D::Smtp, Scope::Both, Form::First),
    ("supervised", D::Supervised, Scope::Global, Form::Exact),
    ("timeout", D::Timeout, Scope::Global, Form::First),
    ("virtualhost", D::Virtualhost, Scope::Virtual, Form::First),
];

impl Directive {
    /// The directive of this name, which must be written in exactly these letters.
    pub(super) fn of(name: &str) -> Option<Self> {
        TABLE.iter().find(|(known, ..)| *known == name).map(|(_, directive, ..)| *directive)
    }

    /// Every name.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|(name, ..)| *name)
    }

    pub(super) fn name(self) -> &'static str {
        self.row().map_or("", |row| row.0)
    }

    pub(super) fn scope(self) -> Scope {
        self.row().map_or(Scope::Virtual, |row| row.2)
    }

    pub(super) fn form(self) -> Form {
        self.row().map_or(Form::Rest, |row| row.3)
    }

    fn row(self) -> Option<&'static (&'static str, Self, Scope, Form)> {
        TABLE.iter().find(|(_, directive, ..)| *directive == self)
    }
}

impl Scope {
    pub(super) fn is_global(self) -> bool {
        matches!(self, Self::Global | Self::Both)
    }

    pub(super) fn is_virtual(self) -> bool {
        matches!(self, Self::Virtual | Self::Both)
    }
}
