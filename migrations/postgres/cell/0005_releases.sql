-- E-mails that users here have left: their claims are freed in the directory until that is certain. Written
-- in the transaction that changes the e-mail.
create table releases (
    value_hash bytea not null,
    -- By which the user came to the e-mail.
    intent     text not null,
    user_id    text not null,
    primary key (value_hash, intent)
);

create index releases_user on releases (user_id);
