-- Users who live here and whom the ring places in another cell, which is not known to have a row FORWARD of them
-- yet. Written in the transaction that makes the user.
create table forwards_due (
    user_id text primary key
);

-- By which rings all users of this cell have been looked at for that. `after` is the last one of a pass that is
-- under way, null once it is through. Whoever makes a user, or is done telling of one, holds this row `for share`
-- and does it by these rings or knows that another pass comes.
create table forward_rings (
    one      boolean primary key default true check (one),
    revision bigint not null,
    digest   text not null,
    after    text
);

insert into forward_rings (revision, digest, after) values (0, '', '');
