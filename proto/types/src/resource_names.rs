//! Every resource name that Torque 6.1.3 knows (`resc_def_all.c`), and ours of cards (cc, cuda, gpu_model, gpumem): how
//! its value is read, who may ask for it, and whether it may change while the job runs.

use crate::ResourceKind::{self, Boolean, Count, Integer, Nodes, Size, Text, Time};
use ResourceSetter::{Manager, Nobody, Operator, User};

/// A resource known to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name, as behind `-l`.
    pub name: &'static str,
    /// How its value is read and printed.
    pub kind: ResourceKind,
    /// Who may ask for it.
    pub setter: ResourceSetter,
    /// Whether it may be altered while the job runs.
    pub is_alterable_running: bool,
}

/// Who may set a resource; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceSetter {
    /// Everybody.
    User,
    /// Operators and managers.
    Operator,
    /// Managers.
    Manager,
    /// The server only.
    Nobody,
}

/// The resource of this name; `None` for an unknown one.
#[must_use]
pub fn resource(name: &str) -> Option<&'static Resource> {
    let at = RESOURCES.binary_search_by_key(&name, |resource| resource.name);
    at.ok().map(|at| &RESOURCES[at])
}

/// The names of all resources, in alphabetical order.
pub fn resource_names() -> impl Iterator<Item = &'static str> {
    RESOURCES.iter().map(|resource| resource.name)
}

const fn row(
    name: &'static str,
    kind: ResourceKind,
    setter: ResourceSetter,
    is_alterable_running: bool,
) -> Resource {
    Resource {
        name,
        kind,
        setter,
        is_alterable_running,
    }
}

/// In the order of their names, for the search.
const RESOURCES: &[Resource] = &[
    row("advres", Text, User, false),
    row("arch", Text, User, false),
    row("cc", Text, User, false),
    row("cpaadmincookie", Text, User, false),
    row("cpaalloccookie", Text, User, false),
    row("cpapartitionid", Text, User, false),
    row("cpuclock", Text, User, false),
    row("cpupercent", Integer, Operator, false),
    row("cput", Time, User, true),
    row("cuda", Text, User, false),
    row("ddisk", Text, User, false),
    row("deadline", Text, User, false),
    row("depend", Text, User, false),
    row("dmem", Text, User, false),
    row("energy_used", Integer, Operator, false),
    row("epilogue", Text, User, false),
    row("feature", Text, User, false),
    row("file", Size, User, false),
    row("flags", Text, User, false),
    row("gattr", Text, User, false),
    row("geometry", Text, User, false),
    row("gmetric", Text, User, false),
    row("gpu_model", Text, User, false),
    row("gpumem", Size, User, false),
    row("gpus", Count, Nobody, false),
    row("gres", Text, User, true),
    row("host", Text, User, false),
    row("hostlist", Text, User, false),
    row("image", Text, User, false),
    row("jgroup", Text, User, false),
    row("jobflags", Text, User, false),
    row("latency", Text, User, false),
    row("loglevel", Text, User, false),
    row("maxmem", Size, User, true),
    row("mem", Size, User, true),
    row("mics", Count, Nobody, false),
    row("minpreempttime", Text, User, false),
    row("minprocspeed", Text, User, false),
    row("minwclimit", Text, User, false),
    row("mpparch", Text, User, false),
    row("mppdepth", Count, User, false),
    row("mppe", Integer, User, false),
    row("mpphost", Text, User, false),
    row("mpplabel", Text, User, false),
    row("mpplabels", Text, User, false),
    row("mppmem", Size, User, true),
    row("mppnodect", Count, Operator, false),
    row("mppnodes", Text, User, false),
    row("mppnppn", Count, User, false),
    row("mppt", Time, User, true),
    row("mpptime", Time, User, false),
    row("mppwidth", Count, User, false),
    row("mta", Integer, User, false),
    row("mtb", Integer, User, false),
    row("mtc", Integer, User, false),
    row("mtd", Integer, User, false),
    row("mte", Integer, User, false),
    row("mtf", Integer, User, false),
    row("mtg", Integer, User, false),
    row("mth", Integer, User, false),
    row("naccesspolicy", Text, User, false),
    row("nallocpolicy", Text, User, false),
    row("ncpus", Count, User, false),
    row("neednodes", Text, Manager, true),
    row("nice", Integer, User, false),
    row("nodect", Count, Nobody, false),
    row("nodemask", Integer, Operator, false),
    row("nodes", Nodes, User, false),
    row("nodeset", Text, User, false),
    row("opsys", Text, User, false),
    row("os", Text, User, false),
    row("other", Text, User, false),
    row("partition", Text, User, false),
    row("pcput", Time, User, false),
    row("pe_mask", Text, Operator, false),
    row("pf", Size, User, true),
    row("pmem", Size, User, true),
    row("pmppt", Time, User, true),
    row("ppf", Size, User, true),
    row("pref", Text, User, false),
    row("procct", Count, Nobody, false),
    row("procs", Count, User, false),
    row("procs_bitmap", Text, User, false),
    row("prologue", Text, User, false),
    row("psds", Size, User, true),
    row("pvmem", Size, User, false),
    row("qos", Text, User, false),
    row("queuejob", Text, User, false),
    row("reqattr", Text, User, false),
    row("retrycc", Text, User, false),
    row("retrycount", Text, User, false),
    row("rmtype", Text, User, false),
    row("scratch", Size, User, false),
    row("sds", Size, User, true),
    row("select", Text, User, false),
    row("sid", Text, User, false),
    row("signal", Text, User, false),
    row("size", Count, User, false),
    row("software", Text, User, false),
    row("spriority", Text, User, false),
    row("srfs_assist", Boolean, Manager, false),
    row("srfs_big", Size, User, false),
    row("srfs_fast", Size, User, false),
    row("srfs_tmp", Size, User, false),
    row("stagein", Text, User, false),
    row("subnode", Text, User, false),
    row("subnode_list", Text, User, false),
    row("taskdistpolicy", Text, User, false),
    row("taskspn", Count, Operator, false),
    row("template", Text, User, false),
    row("termsig", Text, User, false),
    row("termtime", Text, User, false),
    row("tid", Text, User, false),
    row("tpn", Text, User, false),
    row("trig", Text, User, false),
    row("trl", Text, User, false),
    row("var", Text, User, false),
    row("vcores", Text, User, false),
    row("vmem", Size, User, true),
    row("walltime", Time, User, true),
    row("wcrequeue", Text, User, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        assert!(RESOURCES.is_sorted_by(|a, b| a.name < b.name));
        for known in RESOURCES {
            assert_eq!(resource(known.name), Some(known));
        }
        assert_eq!(resource("nosuchres"), None);
        assert_eq!(resource(""), None);
    }

    #[test]
    fn rights_are_those_of_torque() {
        let check = |name: &str, setter, is_alterable_running| {
            let known = resource(name).unwrap();
            let seen = (known.setter, known.is_alterable_running);
            assert_eq!(seen, (setter, is_alterable_running), "{name}");
        };
        check("walltime", User, true);
        check("nodes", User, false);
        check("nodect", Nobody, false);
        check("neednodes", Manager, true);
        check("cpupercent", Operator, false);
    }
}
