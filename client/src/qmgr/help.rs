//! What `help` says, topic by topic, in Torque's words.

/// The text on a topic; on the empty one, the overview.
pub(crate) fn on(topic: &str) -> String {
    if topic.is_empty() {
        return OVERVIEW.to_owned();
    }
    let text = TOPICS.iter().find(|(name, _)| topic.starts_with(name));
    match text {
        Some((_, text)) => (*text).to_owned(),
        None => format!("No help available on: {topic}\nCheck the ERS for more help.\n"),
    }
}

const OVERVIEW: &str = "\
General syntax: command [object][@server] [name attribute[.resource] OP value]
To get help on any topic or subtopic, type help <topic>
Help is available on all commands and topics.
Available commands: active, create, delete, set, unset, list, print, quit
Other topics are attributes, operators, names, and values .
";

/// Topics, the longer ones of a common beginning first.
const TOPICS: &[(&str, &str)] = &[
    ("active", ACTIVE),
    ("create", CREATE),
    ("delete", DELETE),
    ("set", SET),
    ("unset", UNSET),
    ("list", LIST),
    ("print", PRINT),
    (
        "quit",
        "Syntax: quit\nThe quit command will exit from qmgr.\n",
    ),
    (
        "exit",
        "Syntax: exit\nThe exit command will exit from qmgr.\n",
    ),
    ("operator", OPERATOR),
    ("value", VALUE),
    ("name", NAME),
    ("attribute", ATTRIBUTE),
    ("serverpublic", SERVER_PUBLIC),
    ("serverro", SERVER_READ_ONLY),
    ("queuepublic", QUEUE_PUBLIC),
    ("queueexec", QUEUE_EXECUTION),
    ("queueroute", QUEUE_ROUTING),
    ("queuero", QUEUE_READ_ONLY),
    (
        "nodeattr",
        "Node attributes:\nstate - the current state of a node\nproperties - the properties the node has\n",
    ),
];

const ACTIVE: &str = "\
Syntax active object [name [,name...]]
Objects can be \"server\" \"queue\" or \"node\"
The active command will set the active objects.  The active objects are used
when no name is specified for different commands.
If no server is specified for nodes or queues, the command will be sent
to all active servers.
Examples:
active queue q1,batch@server1
active server server2,server3
Now if the following command is typed:
set queue max_running = 10
The attribute max_running will be set to ten on the batch queue on server1
and the q1 queue on server2 and server3.

active server s1, s2
active node @active
This would specify all nodes at all servers.

active queue @s2
This would specify all queues at server s2
";

const CREATE: &str = "\
Syntax: create object name[,name...] 
Objects can be \"queue\" or \"node\"
The create command will create the specified object on the PBS server(s).
For multiple names, use a comma separated list with no intervening whitespace.
Examples:
create queue q1,q2,q3
";

const DELETE: &str = "\
Syntax: delete object name[,name...]
Objects can be \"queue\" or \"node\"
The delete command will delete the specified object from the PBS server(s).
Examples:
delete queue q1
";

const SET: &str = "\
Syntax: set object [name,][,name...] attribute[.resource] OP value
Objects can be \"server\" or \"queue\", \"node\"
The \"set\" command sets the value for an attribute on the specified object.
If the object is \"server\" and name is not specified, the attribute will be
set on all the servers specified on the command line.
For multiple names, use a comma separated list with no intervening whitespace.
Examples:
set server s1 max_running = 5
set server managers = root
set server managers += susan
set node n1,n2 state=down
set queue q1@s3 resources_max.mem += 5mb
set queue @s3 default_queue = batch
";

const UNSET: &str = "\
Syntax: unset object [name][,name...]
Objects can be \"server\" or \"queue\", \"node\"
The unset command will unset an attribute on the specified object.
If the object is \"server\" and name is not specified, the attribute will be
unset on all the servers specified on the command line.
For multiple names, use a comma separated list with no intervening whitespace.
Examples:
unset server s1 max_running
unset server managers
unset queue enabled
";

const LIST: &str = "\
Syntax: list object [name][,name...]
Object can be \"server\" or \"queue\" or \"node\"
The list command will list out all the attributes for the specified object.
If the object is \"server\" and name is not specified, all the servers
specified on the command line will be listed.
For multiple names, use a comma separated list with no intervening whitespace.
Examples:
list server
list queue q1
list node n1,n2,n3
";

const PRINT: &str = "\
Syntax: print object [name][,...]
Object can be \"server\", or \"queue\", or \"node\"
The print command's output can be fed back into qmgr as input.
If the object is \"server\", all the queues and nodes associated 
with the server are printed as well as the server information.
For multiple names, use a comma separated list with no intervening whitespace.
Examples:
print server
print node n1
print queue q3
";

const OPERATOR: &str = "\
Syntax: ... attribute OP new value
Qmgr accepts three different operators for its commands.
\t=\tAssign value into attribute.
\t+=\tAdd new value and old value together and assign into attribute.
\t-=\tSubtract new value from old value and assign into attribute.
These operators are used in the \"set\" and the \"unset\" commands
";

const VALUE: &str = "\
Syntax ... OP value[multiplier]
A multipler can be added to the end of a size in bytes or words.
The multipliers are: tb, gb, mb, kb, b, tw, gw, mw, kw, w.  The second letter
stands for bytes or words.  b or w is the default multiplier.
The multipliers are case insensitive i.e. gw is the same as GW.
Examples:
100mb
2gw
10
";

const NAME: &str = "\
Syntax: [name][@server]
Names can be in several parts.  There can be the name of an object, 
the name of an object at a server, or just at a server.
The name of an object specifys a name.  A name of an object at a server
specifys the name of an object at a specific server.  Lastly, at a server
specifys all objects of a type at a server
Examples:
batch     - An object called batch
batch@s1  - An object called batch at the server s1
@s1       - All the objects of a cirtain type at the server s1
";

const ATTRIBUTE: &str = "\
The help for attributes are broken up into the following help subtopics:
\tserverpublic\t- Public server attributes
\tserverro\t- Read only server attributes
\tqueuepublic\t- Public queue attributes
\tqueueexec\t- Attributes specific to execution queues
\tqueueroute\t- Attributes specified to routing queues
\tqueuero \t- Read only queue attributes
\tnodeattr\t- Node Attributes
";

const SERVER_PUBLIC: &str = "\
Server Public Attributes:
acl_host_enable - enables host level access control
acl_user_enable - enables user level access control
acl_users - list of users allowed/denied access to server
comment - informational text string about the server
default_queue - default queue used when a queue is not specified
log_events - a bit string which specfiies what is logged
mail_uid - uid of sender of mail which is sent by the server
managers - list of users granted administrator privledges
max_running - maximum number of jobs that can run on the server
max_user_run - maximum number of jobs that a user can run on the server
max_grou_run - maximum number of jobs a UNIX group can run on the server
operators - list of users granted operator privledges
query_other_jobs - when true users can query jobs owned by other users
resources_available - amount of resources which are available to the server
resources_cost - the cost factors of resources.  Used for sync. job starting
resources_default - the default resource value when the job does not specify
resource_max - the maximum amount of resources that are on the system
scheduler_iteration - the amount of seconds between timed scheduler iterations
scheduling - when true the server should tell the scheduler to run
system_cost - arbitirary value factored into resource costs
";

const SERVER_READ_ONLY: &str = "\
Server Read Only Attributes:
resources_assigned - total amount of resources allocated to running jobs
server_name - the name of the server and possibly a port number
server_state - the current state of the server
state_count - total number of jobs in each state
total_jobs - total number of jobs managed by the server
pbs_version - the release version of PBS
";

const QUEUE_PUBLIC: &str = "\
Queue Public Attributes:
acl_group_enable - enables group level access control on the queue
acl_groups - list of groups which have been allowed or denied access
acl_host_enable - enables host level access control on the queue
acl_hosts - list of hosts which have been allowed or denied access
acl_user_enable - enables user level access control on the queue
acl_users - list of users which have been allowed or denied access
enabled - when true users can enqueue jobs
from_route_only - when true queue only accepts jobs when routed by servers
max_queueable - maximum number of jobs allowed to reside in the queue
max_running - maximum number of jobs in the queue that can be routed or running
priority - the priority of the queue
queue_type - type of queue: execution or routing
resources_max - maximum amount of a resource which can be requested by a job
resources_min - minimum amount of a resource which can be requested by a job
resources_default - the default resource value when the job does not specify
started - when true jobs can be scheduled for execution
";

const QUEUE_EXECUTION: &str = "\
Attributes for Execution queues only:
checkpoint_min - min. number of mins. of CPU time allowed bwtween checkpointing
resources_available - amount of resources which are available to the queue
kill_delay - amount of time between SIGTERM and SIGKILL when deleting a job
max_user_run - maximum number of jobs a user can run in the queue
max_group_run - maximum number of jobs a UNIX group can run in a queue
";

const QUEUE_ROUTING: &str = "\
Attributes for Routing queues only:
route_destinations - list of destinations which jobs may be routed to
alt_router - when true a alternate routing function is used to route jobs
route_held_jobs - when true held jobs may be routed from this queue
route_waiting_jobs - when true waiting jobs may be routed from this queue
route_retry_time - time delay between route retries.
route_lifetime - maximum amount of time a job can be in this routing queue
";

const QUEUE_READ_ONLY: &str = "\
Queue read only attributes:
total_jobs - total number of jobs in queue
state_count - total number of jobs in each state in the queue
resources_assigned - amount of resources allocated to jobs running in queue
";
