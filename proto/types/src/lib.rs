//! The words that all parts of Capstan share: ids, resource requests, the PBS grammars, reasons.
//! No I/O, no prost, no tokio: everything here is a value or a total parser.

mod array;
mod attribute;
mod cards;
mod depend;
mod dialect;
mod directive;
mod env;
mod gang;
mod gpu_mode;
mod hold;
mod hours;
mod ids;
mod image;
mod image_aliases;
mod index_set;
mod job_name;
mod limit;
mod mail;
mod names;
mod nodespec;
mod output;
mod parse;
mod pbse;
mod reason;
mod recurrence;
mod reservation_id;
mod resource_names;
mod resources;
mod select;
mod size;
mod stage;
mod time;
mod warning;
mod weekdays;
mod zone;

pub use array::ArrayRequest;
pub use attribute::{
    AccessList, AttributeDefinition, AttributeEffect, AttributeError, AttributeKind, AttributeLine,
    AttributeObject, AttributeSetter, AttributeValue, Attributes, SetOperator, parse_boolean,
};
pub use cards::{CardKind, CardWish, Version, alternatives, check_models, is_model, nearest_word};
pub use depend::{Condition, Dependencies, Dependency};
pub use dialect::Dialect;
pub use directive::{Directive, DirectiveError, directives, split_arguments};
pub use env::Env;
pub use gang::{MEETING_VARIABLES, RANK_VARIABLES, is_gang_variable};
pub use gpu_mode::GpuMode;
pub use hold::Holds;
pub use hours::Hours;
pub use ids::{AgentId, AttemptId, CardId, JobId, JobPart, JobReference};
pub use image::{image_name, is_image_name, is_image_wish};
pub use image_aliases::{BadAlias, ImageAliases};
pub use index_set::IndexSet;
pub use job_name::{JOB_NAME_CHARS_MAX, STDIN_JOB_NAME, check_job_name, default_job_name};
pub use limit::{LimitScope, Limited, LimitedOwner, RunLimit};
pub use mail::MailPoints;
pub use names::{NodeName, QueueName, ServerName, UserName};
pub use nodespec::{Chunk, ChunkTarget, NodeSpec};
pub use output::{JoinPath, OutputStream, PathVariables, default_output_name, expand_path};
pub use parse::{ErrorClass, ParseError};
pub use pbse::Pbse;
pub use reason::Reason;
pub use recurrence::{Recurrence, Span};
pub use reservation_id::{ReservationId, ReservationLetter};
pub use resource_names::{Resource, ResourceSetter, resource, resource_names};
pub use resources::{NoResourceValue, ResourceKind, ResourceList, resource_kind, split_resources};
pub use select::{Arrangement, Place, Select, SelectPart, SelectTotals, Sharing};
pub use size::Size;
pub use stage::StagedFile;
pub use time::{Seconds, Timestamp};
pub use warning::WarningSignal;
pub use weekdays::Weekdays;
pub use zone::{DAY_SECS, WallTime, Zone};
