-- Months of the ledger that have been exported whole: only they may be dropped, and only while they
-- still have as many rows.
create table ledger_exports (
    partition   text primary key,
    rows        bigint not null,
    sha256      text not null,
    exported_at timestamptz not null default now()
);
