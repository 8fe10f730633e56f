-- Users whose quota record may not have taken over yet what their row says of tier and block. Written in the
-- transaction that changes the row; `version` is the row's after it.
create table terms_due (
    user_id text primary key references users on delete cascade,
    version bigint not null
);

-- Users who have been erased here, and of whom something is left: in the quota's books, or in the directory. Written
-- in the transaction that erases their rows.
create table erasures (
    user_id   text primary key,
    -- Under which the ledger keeps the amounts.
    anonymous text not null,
    -- Of the row OWNED before.
    epoch     bigint not null,
    -- By which the home may still be CREATING.
    intents   text[] not null
);
