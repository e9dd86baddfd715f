-- What is taken out of the events of a project before they are stored. Constant defaults, so the table is not rewritten and
-- its lock is held for an instant.

alter table projects
  add column scrub_data         boolean not null default true,   -- false: nothing is scrubbed but addresses, where those are
  add column scrub_defaults     boolean not null default true,   -- passwords, tokens, cards, …; false: only sensitive_fields
  add column scrub_ip_addresses boolean not null default false,
  add column sensitive_fields   text[] not null default '{}',    -- values are filtered whose name contains one of these
  add column safe_fields        text[] not null default '{}',    -- names whose values are kept all the same
  add constraint projects_sensitive_fields_check
    check (cardinality(sensitive_fields) <= 200 and array_position(sensitive_fields, null) is null and array_position(sensitive_fields, '') is null),
  add constraint projects_safe_fields_check
    check (cardinality(safe_fields) <= 200 and array_position(safe_fields, null) is null and array_position(safe_fields, '') is null);

insert into schema_migrations (name) values ('0005_scrubbing');
