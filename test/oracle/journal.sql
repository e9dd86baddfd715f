-- The oracle's own memory: every event and every change of an issue that was ever committed, written in the same
-- transaction, so that it is true whatever happens to the connection, the server, the row. Independent of db/triggers.sql.

create schema oracle;

create table oracle.events (
  project_id  bigint not null,
  id          uuid not null,
  issue_id    bigint not null,
  received_at timestamptz not null,
  level       text not null,
  environment text,
  xid         xid8 not null default pg_current_xact_id()
);

-- statement: rows of one statement share it.
create table oracle.changes (
  statement  bigint not null,
  project_id bigint not null,
  issue_id   bigint not null,
  title      text not null,
  action     text not null,
  xid        xid8 not null default pg_current_xact_id()
);
create sequence oracle.statements;

create function oracle.note_events() returns trigger language plpgsql as $$
begin
  insert into oracle.events (project_id, id, issue_id, received_at, level, environment)
  select project_id, id, issue_id, received_at, level, environment from new_rows;
  return null;
end $$;
create trigger _990_oracle after insert on events
  referencing new table as new_rows for each statement execute function oracle.note_events();

create function oracle.note_issues() returns trigger language plpgsql as $$
declare
  v_statement bigint := nextval('oracle.statements');
begin
  if tg_op = 'INSERT' then
    insert into oracle.changes (statement, project_id, issue_id, title, action)
    select v_statement, project_id, id, title, 'created' from new_rows;
  elsif tg_op = 'DELETE' then
    insert into oracle.changes (statement, project_id, issue_id, title, action)
    select v_statement, project_id, id, title, 'deleted' from old_rows;
  else
    insert into oracle.changes (statement, project_id, issue_id, title, action)
    select v_statement, n.project_id, n.id, n.title, n.status
      from new_rows n join old_rows o using (project_id, id)
     where n.status <> o.status and n.regressed_at is not distinct from o.regressed_at
    union all
    select v_statement, n.project_id, n.id, n.title, 'regressed'
      from new_rows n join old_rows o using (project_id, id)
     where n.status <> o.status and n.regressed_at is distinct from o.regressed_at
    union all
    select v_statement, n.project_id, n.id, n.title, case when n.assigned_to is null then 'unassigned' else 'assigned' end
      from new_rows n join old_rows o using (project_id, id)
     where n.assigned_to is distinct from o.assigned_to
    union all
    select v_statement, n.project_id, n.id, n.title, 'updated'
      from new_rows n join old_rows o using (project_id, id)
     where n.title <> o.title or n.level <> o.level or n.culprit is distinct from o.culprit;
  end if;
  return null;
end $$;
create trigger _990_oracle_insert after insert on issues
  referencing new table as new_rows for each statement execute function oracle.note_issues();
create trigger _990_oracle_update after update on issues
  referencing old table as old_rows new table as new_rows for each statement execute function oracle.note_issues();
create trigger _990_oracle_delete after delete on issues
  referencing old table as old_rows for each statement execute function oracle.note_issues();
