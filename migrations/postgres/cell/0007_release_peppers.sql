-- A left e-mail has a claim under each pepper that the process which wrote this knew.
alter table releases
    -- The id of the claim's pepper.
    add column pepper text not null,
    -- Of the pepper in the order of its file: the last one's claim is freed first.
    add column place smallint not null;
