//! Resources of a submission (`-l`): which may be asked for, by whom, and beside which others.

use capstan_proto::Refusal;
use capstan_types::{
    Dialect, NodeSpec, ParseError, Pbse, Place, ResourceSetter, Select, Version, check_models,
    resource,
};

use super::Draft;
use super::apply::{Applied, bad, bad_value, not_served};

/// Resources of PBS Pro that stand beside chunks; a job that names chunks says all else in them.
const BESIDE_SELECT: &[&str] = &[
    "select", "place", "walltime", "cput", "pcput", "file", "nice",
];

/// The name by which a resource is kept: `gpumem>=24gb` comes as a value of `gpumem>`, and Torque's own client calls
/// cards `gres`.
pub(super) fn kept_as(name: &str) -> &str {
    match name {
        "gpumem>" => "gpumem",
        "cuda>" => "cuda",
        "cc>" => "cc",
        "gpus" | "ngpus" => "gres",
        other => other,
    }
}

impl Draft<'_> {
    pub(super) fn resource(&mut self, name: &str, value: &str) -> Applied {
        let name = match kept_as(name) {
            "gres" => name,
            bare => bare,
        };
        let full = format!("Resource_List.{name}");
        match name {
            "select" => return self.select(value),
            "place" => {
                let place = Place::parse(value).map_err(|_| bad(&full))?;
                let group = place.group.as_deref();
                if group.is_some_and(|group| !["host", "vnode"].contains(&group)) {
                    return Err(not_served("place=group of anything but host"));
                }
                self.spec.placing = Some(place);
                return Ok(());
            }
            // To Torque this is a name and nothing more; here it gives cards.
            "gpus" | "ngpus" => {
                let cards = loose_cards(value).map_err(|error| bad_value(&full, &error))?;
                let set = self.spec.resources.set("gres", &format!("gpus:{cards}"));
                return set.map_err(|error| bad_value(&full, &error));
            }
            "cuda" | "cc" if !value.is_empty() => {
                let version = Version::parse(value).map_err(|error| bad_value(&full, &error))?;
                let set = self.spec.resources.set(name, &version.to_string());
                return set.map_err(|error| bad_value(&full, &error));
            }
            "gpu_model" if !value.is_empty() => {
                check_models(value).map_err(|error| bad_value(&full, &error))?;
            }
            _ => {}
        }
        let Some(known) = resource(name) else {
            return Err(Refusal::new(Pbse::Unkresc, full));
        };
        let is_allowed = match known.setter {
            ResourceSetter::User => true,
            ResourceSetter::Operator => self.rules.is_operator,
            ResourceSetter::Manager => self.rules.is_manager,
            ResourceSetter::Nobody => false,
        };
        if !is_allowed {
            return Err(Refusal::new(Pbse::Attrro, full));
        }
        let set = self.spec.resources.set(name, value);
        set.map_err(|error| bad_value(&full, &error))?;
        // A host becomes a node request, and must be able to.
        if name == "host" && !value.is_empty() {
            NodeSpec::parse(value).map_err(|_| bad(&full))?;
        }
        Ok(())
    }

    /// Chunks of PBS Pro. To Torque this is a text without meaning, and stays one if it is no request for chunks.
    fn select(&mut self, value: &str) -> Applied {
        let full = "Resource_List.select";
        let set = self.spec.resources.set("select", value);
        set.map_err(|error| bad_value(full, &error))?;
        self.spec.select = match Select::parse(value) {
            Ok(select) => Some(select),
            Err(_) if self.rules.dialect == Dialect::Torque => None,
            Err(_) => return Err(bad(full)),
        };
        Ok(())
    }

    /// What only shows when all has been read.
    pub(super) fn check_whole(&mut self) -> Applied {
        if let (Some(array), Some(_)) = (&mut self.spec.array, self.idle_limit) {
            array.idle_limit = self.idle_limit;
        }
        if self.spec.select.is_none() {
            return match (&self.spec.placing, self.rules.dialect) {
                (Some(_), Dialect::Torque) => {
                    Err(Refusal::new(Pbse::Unkresc, "Resource_List.place"))
                }
                (Some(_), Dialect::Pro) | (None, _) => Ok(()),
            };
        }
        let mut beside = self.spec.resources.iter().map(|(name, _)| name);
        let mixed = beside.find(|name| !BESIDE_SELECT.contains(name) && decides_nodes(name));
        match mixed {
            Some(name) => {
                let detail = format!(
                    "\"-lresource=\" cannot be used with \"select\" or \"place\", resource is: {name}"
                );
                Err(Refusal::new(Pbse::Ivalreq, detail))
            }
            None => Ok(()),
        }
    }
}

/// `N[:KIND…]` of `-l gpus=`, with the number as it is printed.
fn loose_cards(value: &str) -> Result<String, ParseError> {
    let illegal = |at| ParseError::new(value, at, "a number of cards");
    let (count, kinds) = value.split_once(':').unwrap_or((value, ""));
    let count: u32 = count.parse().map_err(|_| illegal(0))?;
    if kinds.is_empty() {
        return Ok(count.to_string());
    }
    let cards = format!("{count}:{kinds}");
    // One node, whose cards are meant: no other part, and no suffix.
    if let Some(at) = kinds.find(['+', '#', ',', '%']) {
        return Err(illegal(value.len() - kinds.len() + at));
    }
    NodeSpec::parse(&format!("1:gpus={cards}"))?;
    Ok(cards)
}

/// Resources that say how much of which nodes, in Torque's way.
fn decides_nodes(name: &str) -> bool {
    ["nodes", "ncpus", "procs", "size", "host", "mem", "gres"].contains(&name)
}
