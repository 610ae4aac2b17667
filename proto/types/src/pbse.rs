//! The PBS error numbers and their texts, as Torque 6.1.3 has them (`pbs_error_db.h`).
//! The exit status of a command is the number modulo 256; programs rely on both number and text.

macro_rules! pbs_errors {
    ($($number:literal $name:ident $text:literal,)*) => {
        /// A PBS error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Pbse {
            $(#[doc = concat!("`", $text, "`")] $name = $number,)*
        }

        impl Pbse {
            /// Every error, in number order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text of the error. Some end in a blank, as in the original.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

impl Pbse {
    /// The error number, 15001 to 15207.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// What the shell sees of it: the number modulo 256.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        (self as u16 % 256) as u8
    }

    /// The error of this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        let at = Self::ALL.binary_search_by_key(&number, |error| error.number());
        at.ok().map(|at| Self::ALL[at])
    }
}

pbs_errors! {
    15000 Floor "no error",
    15001 Unkjobid "Unknown Job Id Error",
    15002 Noattr "Undefined attribute ",
    15003 Attrro "Cannot set attribute, read only or insufficient permission ",
    15004 Ivalreq "Invalid request",
    15005 Unkreq "Unknown request",
    15006 Toomany "Too many submit retries",
    15007 Perm "Unauthorized Request ",
    15008 IffNotFound "trqauthd unable to authenticate. User or PID of calling process not found or does not match",
    15009 MungeNotFound "munge executable not found, unable to authenticate",
    15010 Badhost "Access from host not allowed, or unknown host",
    15011 Jobexist "Job with requested ID already exists",
    15012 System " System error: ",
    15013 Internal "PBS server internal error",
    15014 Regroute "Dependent parent job currently in routing queue",
    15015 Unksig "Unknown/illegal signal name",
    15016 Badatval "Illegal attribute or resource value for",
    15017 Modatrrun "Cannot modify attribute while job running ",
    15018 Badstate "Request invalid for state of job",
    15019 Gap017 "",
    15020 Unkque "Unknown queue",
    15021 Badcred "Invalid credential",
    15022 Expired "Expired credential",
    15023 Qunoenb "Queue is not enabled",
    15024 Qacess "Access to queue is denied",
    15025 Baduser "Bad UID for job execution",
    15026 Hopcount "Job routing over too many hops",
    15027 Queexist "Queue already exists",
    15028 Attrtype "Incompatible type",
    15029 Quebusy "Cannot delete busy queue",
    15030 Quenbig "Queue name too long",
    15031 Nosup "No support for requested service",
    15032 Quenoen "Cannot enable queue, incomplete definition",
    15033 Protocol "Batch protocol error",
    15034 Badatlst "Bad attribute list structure",
    15035 Noconnects "No free connections",
    15036 Noserver "No server specified",
    15037 Unkresc "Unknown resource type ",
    15038 Excqresc "Job exceeds queue resource limits",
    15039 Quenodflt "No default queue specified",
    15040 Norerun "job is not rerunnable",
    15041 Routerej "Job rejected by all possible destinations (check syntax, queue resources, ...)",
    15042 Routeexpd "Time in Route Queue Expired",
    15043 Momreject "Execution server rejected request",
    15044 Badscript "(qsub) cannot access script file",
    15045 Stagein "Stage In of files failed",
    15046 Rescunav "Resource temporarily unavailable",
    15047 Badgrp "Bad GID for job execution",
    15048 Maxqued "Maximum number of jobs already in queue",
    15049 Ckpbsy "Checkpoint busy, may retry",
    15050 Exlimit "Resource limit exceeds allowable",
    15051 Badacct "Invalid Account",
    15052 Alrdyexit "Job already in exit state",
    15053 Nocopyfile "Job files not copied",
    15054 Cleanedout "unknown job id after clean init",
    15055 Nosyncmstr "No master found for sync job set",
    15056 Baddepend "Invalid Job Dependency",
    15057 Duplist "Duplicate entry in list ",
    15058 Disproto "Bad DIS based Request Protocol",
    15059 Execthere "Cannot execute at specified host because of checkpoint or stagein files",
    15060 Sisreject "sister rejected",
    15061 Siscomm "sister could not communicate",
    15062 Svrdown "Request not allowed: Server shutting down",
    15063 Ckpshort "not all tasks could checkpoint",
    15064 Unknode "Unknown node ",
    15065 Unknodeatr "Unknown node-attribute ",
    15066 Nonodes "Server has no node list",
    15067 Nodenbig "Node name is too big",
    15068 Nodeexist "Node name already exists",
    15069 Badndatval "Illegal value for ",
    15070 Mutualex "Mutually exclusive values for ",
    15071 Gmoderr "Modification failed for ",
    15072 Norelymom "Server could not connect to MOM",
    15073 Notsnode "No time-share node available",
    15074 Jobtype "Wrong job type",
    15075 Badaclhost "Bad ACL entry in host list",
    15076 Maxuserqued "Maximum number of jobs already in queue for user",
    15077 Baddisallowtype "Bad type in disallowed_types list",
    15078 Nointeractive "Queue does not allow interactive jobs",
    15079 Nobatch "Queue does not allow batch jobs",
    15080 Norerunable "Queue does not allow rerunable jobs",
    15081 Nononrerunable "Queue does not allow nonrerunable jobs",
    15082 Unkarrayid "Unknown Array ID",
    15083 BadArrayReq "Bad Job Array Request",
    15084 BadArrayData "Bad data reading job array from file ",
    15085 Timeout "Time out",
    15086 Jobnotfound "Job not found",
    15087 Nofaulttolerant "Queue does not allow fault tolerant jobs",
    15088 Nofaultintolerant "Queue does not allow fault intolerant jobs",
    15089 Nojobarrays "Queue does not allow job arrays",
    15090 RelayedToMom "request was relayed to a MOM",
    15091 MemMalloc "Error allocating memory - out of memory",
    15092 Mutex "Error allocating controlling mutex (lock/unlock)",
    15093 Threadattr "Error setting thread attributes",
    15094 Thread "Error creating thread",
    15095 Select "Error in socket select",
    15096 SocketFault "Unable to get connection to socket",
    15097 SocketWrite "Error writing data to socket",
    15098 SocketRead "Error reading data from socket",
    15099 SocketClose "Socket close detected",
    15100 SocketListen "Error listening on socket",
    15101 AuthInvalid "Invalid auth type in request",
    15102 NotImplemented "This functionality is not yet implemented",
    15103 Quenotavailable "Queue is currently not available",
    15104 Tmpdiffowner "tmpdir owned by another user",
    15105 Tmpnotdir "tmpdir exists but is not a directory",
    15106 Tmpnoname "tmpdir cannot be named for job",
    15107 Cantopensocket "cannot open demux sockets",
    15108 Cantcontactsisters "cannot send join job to all sisters",
    15109 Cantcreatetmpdir "cannot create tmpdir for job",
    15110 Badmomstate "Mom is down, cannot run job",
    15111 SocketInformation "socket information is not accessible",
    15112 SocketData "data on socket does not process correctly",
    15113 ClientInvalid "client is not allowed/trusted",
    15114 PrematureEof "Premature End of File",
    15115 CanNotSaveFile "Error saving file",
    15116 CanNotOpenFile "Error opening file",
    15117 CanNotWriteFile "Error writing file",
    15118 JobFileCorrupt "Job file corrupt",
    15119 JobRerun "Job can not be rerun",
    15120 Connect "Can not establish connection",
    15121 Jobworkdelay "Job function must be temporarily delayed",
    15122 BadParameter "Parameter of function was invalid",
    15123 Continue "Continue processing on job. (Not an error)",
    15124 Jobsubstate "Current sub state does not allow transaction.",
    15125 CanNotMoveFile "Error moving file",
    15126 JobRecycled "Job is being recycled",
    15127 JobAlreadyInQueue "Job is already in destination queue.",
    15128 InvalidMutex "Mutex is NULL or otherwise invalid",
    15129 MutexAlreadyLocked "The mutex is already locked by this object",
    15130 MutexAlreadyUnlocked "The mutex has already been unlocked by this object",
    15131 InvalidSyntax "Command syntax invalid",
    15132 NodeDown "A node is down. Check the MOM and host",
    15133 ServerNotFound "Could not connect to batch server",
    15134 ServerBusy "Pbs Server is currently too busy to service this request. Please retry this request.",
    15135 ClientConnNotFound "Client connection not found. trqauthd unable to authorize user. Possible transient failure. Please try again",
    15136 CannotResolve "Could not resolve host name",
    15137 DomainSocketFault "could not connect to trqauthd",
    15138 JobNotInQueue "Job not found in queue.",
    15139 LoginBusy "Login node is currently too busy to run a job",
    15140 NodeCantManageFrequency "The cpu frequency for this node can not be modified.",
    15141 FrequencyNotAvailable "Requested governor or frequency is not available.",
    15142 UnexpectedDataInFile "File contains unexpected data.",
    15143 CanNotReadFile "Error reading file",
    15144 NoMatchingFrequency "No matching frequency available.",
    15145 InvalidFrequencyFile "Unable to read base frequency file.",
    15146 ChangedCpuFrequency "Changed cpu clock frequency.",
    15147 InvalidPowerStateTransistion "Nodes can not be changed from one low power state directly to another.",
    15148 PowerStateUnsupported "The node does not support changing the power state.",
    15149 PowerStateUnavailable "The node does not support the requested power state.",
    15150 CantChangePowerStateWithJobsRunning "Can't change power state on a node which has running jobs.",
    15151 CantWakeOffMachine "Unable to wake a node in hibernate or shutdown state.",
    15152 BadUtcFormat "Bad UTC format, must be in the form yyyy-mm-ddThh:mm:ssZ or yyyy-mm-ddThh:mm:ss+hhmm or yyyy-mm-ddThh:mm:ss-hh or 0 to remove it.",
    15153 BadUtcRange "The time to live date is in the past.",
    15154 CreateNotAllowedWithMomHierarchy "Nodes may not be dynamically created or deleted if there is a mom_hierarchy file.",
    15155 HierarchyNotSent "The updated okclients list hasn't been sent out to the cluster yet. The node(s) will automatically update to free once this is done and the mom has reported in.",
    15156 MomTimedOutOnRequeue "The server was unable to communicate with the MOM to requeue or delete the job. The node has been deleted and all jobs on the node have been purged.",
    15157 BadJobStateTransition "The requested state or substate can't be set from the job's current state.",
    15158 CgroupsNotEnabled "Cgroups are not enabled on this node.",
    15159 RescConflict "This job's resource request conflicts with the queue's default resources.",
    15160 UnalterableAttr "The requested attribute cannot be altered after submission.",
    15161 NoProcessRank "A process rank was not given. will add process to job cgroup.",
    15162 ReqNotFound "A req for this host was not found",
    15163 IndicesEmpty "The cpuset or memset indices are not set",
    15164 Empty "The container is empty",
    15165 Minlimit "Request doesn't meet minimum limit",
    15166 CantEditNodes "With dont_write_nodes_file set you can't edit nodes via qmgr.",
    15167 Ghostqueue "This queue had errors during its recovery. Please correct any settings that were lost on restart and then unset the ghost_queue setting via qmgr. Once this is unset, then the queue will be able to accept new jobs again.",
    15168 GpuNotInitialized "NVIDIA GPU not initialized",
    15169 UnsupportedDeviceVersion "Unsupported device version",
    15170 CgroupCreateFail "Could not create all of the cgroups for this job.",
    15171 Eof "This stream has already been closed. End of File.",
    15172 GpuProhibitedMode "Invalid gpu mode requested. Prohibited mode is not allowed. Check the spelling of the mode request for errors",
    15173 NodeDeleted "Node was deleted during work",
    15174 StateSlotLimit "The requested state or substate can't be set from the job's current state (slot limit in effect).",
    15175 BadGroup "Bad group entry",
    15176 NoPrivileges "No privileges. Access not allowed",
    15177 Ceiling "",
    15200 Rmfloor "",
    15201 Rmunknown "resource unknown",
    15202 Rmbadparam "parameter could not be used",
    15203 Rmnoparam "a parameter needed did not exist",
    15204 Rmexist "something specified didn't exist",
    15205 Rmsystem "a system error occurred",
    15206 Rmpart "only part of reservation made",
    15207 Rmceiling "",
}

#[cfg(test)]
mod tests {
    use super::Pbse;

    #[test]
    fn numbers_and_errors_are_one_to_one() {
        for &error in Pbse::ALL {
            assert_eq!(Pbse::from_number(error.number()), Some(error));
        }
        assert_eq!(Pbse::from_number(1), None);
    }

    #[test]
    fn exit_statuses_are_those_of_torque() {
        assert_eq!(Pbse::Unkjobid.exit_status(), 153);
        assert_eq!(Pbse::Unkque.exit_status(), 172);
        assert_eq!(Pbse::Excqresc.exit_status(), 190);
    }
}
