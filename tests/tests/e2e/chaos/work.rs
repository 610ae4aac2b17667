//! The jobs of the chaos run. Each writes into a file of every run of its own when it began and on which cards, that it
//! still lives, and with which status it is about to end, by the host's one clock (/proc/uptime); and it prints what must
//! be in its output if it came to its end.

use capstan_tests::engine::IMAGE;

use super::dice::Dice;

/// What a job is; the first part of its name in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Fails,
    Once,
    Array,
    Gang,
    Container,
    Inside,
    Warned,
    /// Submitted by a client that was killed in its work.
    Cut,
}

const KINDS: [Kind; 8] = [
    Kind::Plain,
    Kind::Fails,
    Kind::Once,
    Kind::Array,
    Kind::Gang,
    Kind::Container,
    Kind::Inside,
    Kind::Warned,
];

impl Kind {
    pub(super) fn any(dice: &mut Dice) -> Self {
        dice.one(&KINDS).copied().unwrap_or(Self::Plain)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fails => "fails",
            Self::Once => "once",
            Self::Array => "array",
            Self::Gang => "gang",
            Self::Container => "container",
            Self::Inside => "inside",
            Self::Warned => "warned",
            Self::Cut => "cut",
        }
    }

    /// How many jobs of their own one submission makes.
    pub(super) const fn jobs(self) -> u64 {
        match self {
            Self::Array => 3,
            Self::Plain
            | Self::Fails
            | Self::Once
            | Self::Gang
            | Self::Container
            | Self::Inside
            | Self::Warned
            | Self::Cut => 1,
        }
    }

    /// What this kind asks for, beside its name.
    pub(super) fn options(self) -> String {
        match self {
            Self::Plain | Self::Fails => "-l nodes=1:gpus=1".to_owned(),
            Self::Once => "-r n -l nodes=1:gpus=1".to_owned(),
            Self::Array => "-t 0-2 -l nodes=1:ppn=1".to_owned(),
            Self::Gang => "-l nodes=2:ppn=1:gpus=1".to_owned(),
            Self::Container => "-l nodes=1:gpus=1".to_owned(),
            Self::Inside => format!("-l nodes=1:gpus=1 -W image={IMAGE}"),
            Self::Warned => "-l nodes=1:gpus=2,walltime=6 -W signal=USR1@4".to_owned(),
            Self::Cut => "-l nodes=1:ppn=1".to_owned(),
        }
    }

    /// The script, which beats `beats` times, five a second.
    pub(super) fn script(self, beats: u64) -> String {
        let work = match self {
            Self::Plain | Self::Once | Self::Array | Self::Inside | Self::Cut => {
                "beat; finish 0".to_owned()
            }
            Self::Fails => "beat; finish 3".to_owned(),
            // Each of its nodes says which cards it was told to use.
            Self::Gang => {
                let says = "read -r now _ </proc/uptime; echo $now cuda $PBS_NODENUM $CUDA_VISIBLE_DEVICES >>$0";
                format!("pbsdsh -u sh -c '{says}' $PWD/$me; beat; finish 0")
            }
            Self::Container => {
                let inner = "i=0; while test $i -lt 5; do sleep 0.2; read -r now _ </proc/uptime; echo $ME tick $i; echo $now beat >>$ME; i=$((i+1)); done; exit 4";
                format!("startdocker -u \"-e ME=$PWD/$me\" -c '{inner}' {IMAGE}; finish $?")
            }
            Self::Warned => "trap 'finish 5' USR1; N=1000; beat; finish 0".to_owned(),
        };
        format!(
            "read -r now _ </proc/uptime; me=runs/$PBS_JOBID+$now+$$
cards=; test -r \"$PBS_GPUFILE\" && cards=`cat $PBS_GPUFILE | tr '\\n' ' '`
echo $now start $cards >>$me; echo $now cuda 0 $CUDA_VISIBLE_DEVICES >>$me; echo $me began
N={beats}
beat() {{ i=0; while test $i -lt $N; do sleep 0.2; read -r now _ </proc/uptime; echo $me tick $i; echo $now beat >>$me; i=$((i+1)); done; }}
finish() {{ echo $me done $1; read -r now _ </proc/uptime; echo $now end $1 >>$me; exit $1; }}
{work}"
        )
    }
}
