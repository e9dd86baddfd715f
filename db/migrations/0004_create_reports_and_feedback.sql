-- What SDKs say they threw away, and what people write about an error they saw. New tables: nothing that anybody uses is
-- locked.

-- How many of each data category were discarded by SDKs, and why (envelope item client_report). Reasons and categories are
-- from closed lists, so a project has at most some hundred rows an hour.
create table client_reports (
  project_id bigint not null references projects on delete cascade,
  hour       timestamptz not null,
  reason     text not null,
  category   text not null,
  quantity   bigint not null constraint client_reports_quantity_check check (quantity > 0),
  constraint client_reports_pkey primary key (project_id, hour, reason, category)
) with (fillfactor = 70);

-- Envelope items feedback and user_report. The event may come after what is said about it, or never: issue_id is set once
-- both are here.
create table user_feedback (
  project_id  bigint not null references projects on delete cascade,
  id          uuid not null,
  event_id    uuid,
  issue_id    bigint,
  name        text,
  email       text,
  message     text not null,
  url         text,
  received_at timestamptz not null default now(),
  constraint user_feedback_pkey primary key (project_id, id)
);
create index user_feedback_project_id_issue_id_received_at_idx on user_feedback (project_id, issue_id, received_at, id);
create index user_feedback_project_id_received_at_idx on user_feedback (project_id, received_at, id);
create index user_feedback_waiting_idx on user_feedback (received_at) where issue_id is null and event_id is not null;

insert into schema_migrations (name) values ('0004_create_reports_and_feedback');
