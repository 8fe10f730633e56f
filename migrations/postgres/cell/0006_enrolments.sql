-- Users who were enrolled by their first sight under a service key have no e-mail until they say one. Not checked
-- for the rows before it, which all have both: that would read the whole table.
alter table users alter column email drop not null;
alter table users alter column email_intent drop not null;
alter table users add constraint users_email_by_intent
    check ((email is null) = (email_intent is null)) not valid;

-- Homes of enrolled users that are not known to be ACTIVE in the directory yet. No claim leads the reaper to them,
-- so each is written in the transaction that makes the user.
create table openings (
    user_id text primary key,
    intent  text not null
);
