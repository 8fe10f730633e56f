//! What a local stack is asked to be: how many regions and cells, and what their stores are.

use crate::StackError;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Of worlds that say only how many, in this order; and no more than so many of others.
const REGIONS: [&str; 8] = ["eu", "us", "ap", "sa", "af", "me", "oc", "in"];
/// More cells on one machine are no world but a load test.
const CELLS_MAX: usize = 16;
/// More of them than a cell has shards would have nothing to do.
const INSTANCES_MAX: usize = SHARDS as usize;
const SHARDS: u16 = 4;
/// Of cells with several processes: so many that each of them has some, wherever its port falls.
const SHARDS_SHARED: u16 = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    #[default]
    Wall,
    /// Takes its time from callers.
    Virtual,
}

/// How the quota Redis flushes its append-only file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    #[default]
    Always,
    /// Faster on slow disks; cells then say with every admission that the machine may forget it.
    Everysec,
}

/// What a cell's quota store consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisShape {
    #[default]
    Single,
    /// A primary, a replica, and three Sentinels that watch them.
    Sentinel,
    /// Three nodes that share the shards.
    Cluster,
}

/// What the directory is kept in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectoryShape {
    /// One server; of a single cell, a database in the cell's own.
    #[default]
    Postgres,
    /// A cluster of one node a region.
    Cassandra,
    /// A cluster that is there already, by its `cql://` URL. The stack never stops or deletes it.
    Elsewhere(String),
}

/// Where the one public cell listens. What is not said: on loopback, at free ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    pub listen: Option<Ipv4Addr>,
    pub port: Option<u16>,
    pub admin_port: Option<u16>,
    /// Beyond loopback there is no TLS: it has to be said that this is meant.
    pub allow_plaintext: bool,
}

impl Door {
    pub(crate) fn address(self) -> Ipv4Addr {
        self.listen.unwrap_or(Ipv4Addr::LOCALHOST)
    }

    fn validate(self, world: &World) -> Result<(), &'static str> {
        if self != Door::default() && !world.single {
            return Err("only a single cell has ports of one's choice");
        }
        // The stack itself asks it on loopback, which has to be among what it listens on.
        if self.address() != Ipv4Addr::LOCALHOST && self.address() != Ipv4Addr::UNSPECIFIED {
            return Err("a cell listens on 127.0.0.1 or on 0.0.0.0");
        }
        if self.port.is_some() && self.port == self.admin_port {
            return Err("two listeners need two ports");
        }
        if self.address().is_loopback() {
            return Ok(());
        }
        if !self.allow_plaintext {
            return Err("a listener beyond loopback speaks without TLS: it needs --allow-plaintext");
        }
        if world.clock == Clock::Virtual {
            return Err("a virtual clock is for loopback only: whoever sets the time sets the quota");
        }
        Ok(())
    }
}

/// A region, and the cells it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionShape {
    pub name: String,
    pub cells: Vec<CellShape>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellShape {
    pub name: String,
    /// Fixed when the cell is made. None: as many as its processes need.
    pub shards: Option<u16>,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    pub regions: Vec<RegionShape>,
    /// Processes of each cell.
    #[serde(default = "one")]
    pub instances: usize,
    /// One public cell and nothing else.
    pub single: bool,
    #[serde(default)]
    pub door: Door,
    pub clock: Clock,
    pub fsync: Fsync,
    #[serde(default)]
    pub redis: RedisShape,
    #[serde(default)]
    pub directory: DirectoryShape,
    /// Deleted with its data when it ends, and not kept by whoever finds it later.
    #[serde(default)]
    pub ephemeral: bool,
    /// The folder of our programs, if they are not beside the running one.
    pub programs: Option<PathBuf>,
}

impl World {
    /// So many regions of so many cells each.
    pub fn of(regions: usize, cells: usize) -> Self {
        let name = |n: usize| REGIONS.get(n).map_or_else(|| format!("region-{n}"), |name| (*name).to_owned());
        Self::of_regions((0..regions).map(|n| region(&name(n), cells)).collect())
    }

    pub fn of_regions(regions: Vec<RegionShape>) -> Self {
        Self {
            regions,
            instances: 1,
            single: false,
            door: Door::default(),
            clock: Clock::default(),
            fsync: Fsync::default(),
            redis: RedisShape::default(),
            directory: DirectoryShape::default(),
            ephemeral: false,
            programs: None,
        }
    }

    /// One cell that callers reach without a router.
    pub fn single_cell() -> Self {
        Self { single: true, ..Self::of_regions(vec![region("local", 1)]) }
    }

    pub fn validate(&self) -> Result<(), StackError> {
        let step = "planning the world";
        if !(1..=REGIONS.len()).contains(&self.regions.len()) {
            return Err(StackError::Step { step, cause: format!("1 to {} regions", REGIONS.len()) });
        }
        if self.regions.iter().any(|region| region.cells.is_empty()) || self.cells().count() > CELLS_MAX {
            return Err(StackError::Step { step, cause: format!("1 to {CELLS_MAX} cells in all") });
        }
        if !(1..=INSTANCES_MAX).contains(&self.instances) {
            return Err(StackError::Step { step, cause: format!("1 to {INSTANCES_MAX} processes a cell") });
        }
        if self.single && self.instances > 1 {
            return Err(StackError::Step { step, cause: "a cell without a router is one process".into() });
        }
        self.door.validate(self).map_err(|cause| StackError::Step { step, cause: cause.into() })
    }

    /// Every cell with its region.
    pub fn cells(&self) -> impl Iterator<Item = (&RegionShape, &CellShape)> {
        self.regions.iter().flat_map(|region| region.cells.iter().map(move |cell| (region, cell)))
    }

    pub(crate) fn cell(&self, name: &str) -> Option<(&RegionShape, &CellShape)> {
        self.cells().find(|(_, cell)| cell.name == name)
    }

    pub(crate) fn region(&self, name: &str) -> Option<&RegionShape> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The same, as a grid of other numbers where they are said.
    pub fn with_grid(self, regions: Option<usize>, cells: Option<usize>) -> Self {
        if regions.is_none() && cells.is_none() {
            return self;
        }
        let most = self.regions.iter().map(|region| region.cells.len()).max().unwrap_or_default();
        let grid = Self::of(regions.unwrap_or(self.regions.len()), cells.unwrap_or(most));
        Self { regions: grid.regions, ..self }
    }

    pub fn shards_of(&self, cell: &CellShape) -> u16 {
        cell.shards.unwrap_or(if self.instances > 1 { SHARDS_SHARED } else { SHARDS })
    }

    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, StackError> {
        let Some(folder) = &self.programs else { return built(name) };
        let program = folder.join(name);
        if program.is_file() { Ok(program) } else { Err(StackError::NotBuilt { program: name.to_owned() }) }
    }

    /// The command that starts a stack of this form again.
    pub fn started_by(&self) -> &'static str {
        if self.single { "cellctl cell up" } else { "cellctl up" }
    }

    pub(crate) fn describe(&self) -> String {
        let (regions, first) = (self.regions.len(), self.regions.first().map_or(0, |region| region.cells.len()));
        let shape = if self.single {
            "one cell".into()
        } else if self.regions.iter().all(|region| region.cells.len() == first) {
            format!("{regions} regions × {first} cells")
        } else {
            format!("{regions} regions, {} cells", self.cells().count())
        };
        let shape = if self.instances > 1 { format!("{shape} × {} processes", self.instances) } else { shape };
        let directory = match self.directory {
            DirectoryShape::Postgres => "postgres",
            DirectoryShape::Cassandra => "cassandra",
            // Its URL may hold a password.
            DirectoryShape::Elsewhere(_) => "elsewhere",
        };
        let of_cells = format!("{:?} clock, fsync {:?}, redis {:?}", self.clock, self.fsync, self.redis);
        let door = match self.door {
            door if door == Door::default() => String::new(),
            door => {
                let [port, admin_port] = [door.port, door.admin_port]
                    .map(|port| port.map_or_else(|| "free".into(), |port| port.to_string()));
                format!(", on {} at ports {port} and {admin_port}", door.address())
            }
        };
        let lasting = if self.ephemeral { ", ephemeral" } else { "" };
        format!("{shape}, {of_cells}, directory {directory}{door}{lasting}").to_lowercase()
    }
}

fn region(name: &str, cells: usize) -> RegionShape {
    let cell = |n| CellShape { name: format!("{name}-{n}"), shards: None };
    RegionShape { name: name.to_owned(), cells: (1..=cells).map(cell).collect() }
}

fn one() -> usize {
    1
}

/// A program of ours: beside the running one (a test's executable is one folder below).
pub(crate) fn built(program: &str) -> Result<PathBuf, StackError> {
    let missing = || StackError::NotBuilt { program: program.to_owned() };
    let running = std::env::current_exe().map_err(|_| missing())?;
    let beside = running.ancestors().skip(1).take(3).map(|folder| folder.join(program));
    beside.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}
