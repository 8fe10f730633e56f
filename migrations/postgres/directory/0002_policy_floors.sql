-- The version of a policy below which none decides: a document of the catalog, one a policy.
alter table catalog drop constraint catalog_kind_check;
alter table catalog add constraint catalog_kind_check
    check (kind in ('tier', 'policy', 'policy-floor', 'key', 'artifact'));
