-- Mesher's second program: whatever commits a change of events or issues, this tells it on channel `mesher`. Applied
-- whole after the migrations; running it twice changes nothing. `psql -c 'listen mesher'` shows it all.
--
-- A payload is JSON of less than 8,000 bytes (PostgreSQL's limit; passing it would abort the write), one project each:
--   {"project_id", "action": "events", "unresolved", "version", "cursor", "events": [{id, issue_id, level, …}]}
--   {"project_id", "action": "issues", "unresolved", "version", "cursor", "issues": [{activity_id, action, issue_id, actor, issue}]}
--   {"project_id", "action": "bulk",   "unresolved", "version", "cursor", "changes"}      more than 500 issues in one statement
--   {"project_id", "action": "keys", "public_key", "revoked"} and {"action": "tokens", "token_id", "revoked"}
-- `unresolved` is the project's count at `version`; versions grow as commits are ordered, so the highest one seen is true.
-- `cursor` is pg_snapshot_xmin: whatever has a smaller transaction id is committed and was told before, or never will be.

create or replace function mesher_notify(p_project_id bigint, p_head text, p_list text default null) returns void
language plpgsql set search_path from current as $$
begin
  perform pg_notify('mesher',
    '{"project_id":"' || p_project_id || '",' || p_head
    || (select ',"unresolved":' || coalesce(max(c.unresolved), 0) || ',"version":' || coalesce(max(c.version), 0)
          from project_counters c where c.project_id = p_project_id)
    || ',"cursor":"' || pg_snapshot_xmin(pg_current_snapshot()) || '"'
    || coalesce(p_list, '') || '}');
end $$;
comment on function mesher_notify is 'Sends one payload on channel mesher: project, head, unresolved count with its version, cursor, list.';

-- Who acts: what the server said (set_config('mesher.actor', …, true)), else the role that a person took or logged in as.
create or replace function mesher_actor() returns text
language sql stable as $$
  select coalesce(nullif(current_setting('mesher.actor', true), ''), nullif(current_setting('role', true), 'none'), session_user)
$$;
comment on function mesher_actor is 'The acting user, token or rule as set by the server, else the database role.';

-- One event as people see it in a list. Cut at p_cut characters a field: 200, or 40 where 200 would not fit.
create or replace function mesher_event_entry(p_event events, p_cut integer) returns text
language sql stable as $$
  select json_strip_nulls(json_build_object(
    'id', replace(p_event.id::text, '-', ''), 'issue_id', p_event.issue_id::text, 'level', p_event.level,
    'environment', left(p_event.environment, greatest(p_cut, 64)), 'release', left(p_event.release, p_cut),
    'platform', left(p_event.platform, p_cut), 'title', left(p_event.title, p_cut), 'culprit', left(p_event.culprit, p_cut),
    'message', left(p_event.message, p_cut), 'transaction', left(p_event.transaction, p_cut),
    'server_name', left(p_event.server_name, p_cut), 'user', left(p_event.user_key, p_cut),
    'received_at', p_event.received_at, 'timestamp', p_event.timestamp))::text
$$;
comment on function mesher_event_entry is 'One event of an events payload, without its body.';

-- Fires once per insert statement on events. Reads project_counters. Emits `events` payloads, as many as it takes to stay
-- under 7,900 bytes each. Never raises: a field too long is cut. Takes no lock of its own.
create or replace function tg_events__notify() returns trigger
language plpgsql security definer set search_path from current as $$
declare
  v_project_id bigint;
  v_event events;
  v_entry text;
  v_list text;
begin
  for v_project_id in select distinct n.project_id from new_rows n order by 1 loop
    v_list := '';
    for v_event in select * from new_rows n where n.project_id = v_project_id loop
      v_entry := mesher_event_entry(v_event, 200);
      if octet_length(v_entry) > 3000 then
        v_entry := mesher_event_entry(v_event, 40);
      end if;
      if octet_length(v_list) + octet_length(v_entry) > 7600 then
        perform mesher_notify(v_project_id, '"action":"events"', ',"events":[' || v_list || ']');
        v_list := '';
      end if;
      v_list := v_list || case when v_list = '' then '' else ',' end || v_entry;
    end loop;
    perform mesher_notify(v_project_id, '"action":"events"', ',"events":[' || v_list || ']');
  end loop;
  return null;
end $$;
comment on function tg_events__notify is 'Tells channel mesher of inserted events, packed by project.';

-- The summary that people see of an issue, cut to fit.
create or replace function mesher_issue_summary(p_project_id bigint, p_issue_id bigint) returns json
language sql stable as $$
  select json_build_object(
    'short_id', o.short_id, 'title', left(o.title, 200), 'culprit', left(o.culprit, 200), 'level', o.level,
    'platform', left(o.platform, 64), 'status', o.status, 'assigned_to', left(o.assigned_to, 100),
    'first_seen', o.first_seen, 'last_seen', coalesce(o.last_seen, o.first_seen), 'event_count', o.event_count,
    'user_count', o.user_count, 'status_changed_at', o.status_changed_at)
    from issues_overview o where o.project_id = p_project_id and o.id = p_issue_id
$$;
comment on function mesher_issue_summary is 'One issue as an issues payload and the replay show it; null when it is gone.';

-- The second half of the issue triggers: changes of one statement, by project. Adds to the count (the row lock is what
-- orders counts as commits are ordered), writes issue_activity, emits `issues` payloads, or one `bulk` for more than 500.
create or replace function mesher_record_changes(
  p_project_ids bigint[], p_issue_ids bigint[], p_actions text[], p_data jsonb[], p_delta_projects bigint[], p_deltas bigint[]
) returns void language plpgsql set search_path from current as $$
declare
  v_actor text := left(mesher_actor(), 200);
  v_project_id bigint;
  v_delta bigint;
  v_change record;
  v_entry text;
  v_list text;
  v_changes bigint;
begin
  for v_project_id, v_delta in
    select p, sum(d) from unnest(p_delta_projects, p_deltas) as x(p, d) group by p having sum(d) <> 0 order by p
  loop
    update project_counters set unresolved = unresolved + v_delta, version = version + 1 where project_id = v_project_id;
  end loop;

  for v_project_id, v_changes in select p, count(*) from unnest(p_project_ids) as x(p) group by p order by p loop
    if v_changes > 500 then
      insert into issue_activity (project_id, issue_id, action, actor, data)
      select c.project_id, c.issue_id, c.action, v_actor, c.data
        from unnest(p_project_ids, p_issue_ids, p_actions, p_data) as c(project_id, issue_id, action, data)
       where c.project_id = v_project_id;
      perform mesher_notify(v_project_id, '"action":"bulk","changes":' || v_changes);
      continue;
    end if;
    v_list := '';
    for v_change in
      with recorded as (
        insert into issue_activity (project_id, issue_id, action, actor, data)
        select c.project_id, c.issue_id, c.action, v_actor, c.data
          from unnest(p_project_ids, p_issue_ids, p_actions, p_data) with ordinality as c(project_id, issue_id, action, data, n)
         where c.project_id = v_project_id
         order by c.n
        returning id, issue_id, action
      )
      select r.id, r.issue_id, r.action, mesher_issue_summary(v_project_id, r.issue_id) as summary from recorded r order by r.id
    loop
      v_entry := json_build_object('activity_id', v_change.id::text, 'action', v_change.action,
        'issue_id', v_change.issue_id::text, 'actor', v_actor, 'issue', v_change.summary)::text;
      if octet_length(v_entry) > 6000 then  -- only control characters, six bytes each, get here
        v_entry := json_build_object('activity_id', v_change.id::text, 'action', v_change.action,
          'issue_id', v_change.issue_id::text, 'actor', left(v_actor, 20),
          'issue', v_change.summary::jsonb || jsonb_build_object('title', left(v_change.summary ->> 'title', 40),
            'culprit', null, 'assigned_to', left(v_change.summary ->> 'assigned_to', 40)))::text;
      end if;
      if octet_length(v_list) + octet_length(v_entry) > 7600 then
        perform mesher_notify(v_project_id, '"action":"issues"', ',"issues":[' || v_list || ']');
        v_list := '';
      end if;
      v_list := v_list || case when v_list = '' then '' else ',' end || v_entry;
    end loop;
    perform mesher_notify(v_project_id, '"action":"issues"', ',"issues":[' || v_list || ']');
  end loop;
end $$;
comment on function mesher_record_changes is 'Counts, records and tells the changes that one statement made to issues.';

-- Fires once per insert, update or delete statement on issues. Only changes people see are recorded. Lock order: the
-- issues (by the statement), then project_counters by project id; on delete issue_stats before events, see below.
create or replace function tg_issues__notify() returns trigger
language plpgsql security definer set search_path from current as $$
declare
  v_project_ids bigint[];
  v_issue_ids bigint[];
  v_actions text[];
  v_data jsonb[];
  v_delta_projects bigint[];
  v_deltas bigint[];
begin
  if tg_op = 'INSERT' then
    select array_agg(n.project_id order by n.id), array_agg(n.id order by n.id), array_agg('created'::text), array_agg(null::jsonb)
      into v_project_ids, v_issue_ids, v_actions, v_data from new_rows n;
    select array_agg(x.project_id), array_agg(x.n) into v_delta_projects, v_deltas
      from (select project_id, count(*) as n from new_rows where status = 'unresolved' group by project_id) x;
  elsif tg_op = 'UPDATE' then
    select array_agg(c.project_id order by c.id, c.n), array_agg(c.id order by c.id, c.n),
           array_agg(c.action order by c.id, c.n), array_agg(c.data order by c.id, c.n)
      into v_project_ids, v_issue_ids, v_actions, v_data
      from (
        select n.project_id, n.id, c.n, c.action, c.data
          from new_rows n
          join old_rows o on o.project_id = n.project_id and o.id = n.id
         cross join lateral (values
           (1, case when n.status = o.status then null
                    when n.status = 'unresolved' and n.regressed_at is distinct from o.regressed_at then 'regressed'
                    else n.status end,
               jsonb_build_object('from', o.status, 'to', n.status)),
           (2, case when n.assigned_to is not distinct from o.assigned_to then null
                    when n.assigned_to is null then 'unassigned' else 'assigned' end,
               jsonb_build_object('from', o.assigned_to, 'to', n.assigned_to)),
           (3, case when (n.short_id, n.title, n.culprit, n.level, n.platform)
                      is distinct from (o.short_id, o.title, o.culprit, o.level, o.platform) then 'updated' end, null)
         ) as c(n, action, data)
         where c.action is not null
      ) c;
    select array_agg(x.project_id), array_agg(x.n) into v_delta_projects, v_deltas
      from (select project_id, 1::bigint as n from new_rows where status = 'unresolved'
            union all select project_id, -1 from old_rows where status = 'unresolved') x;
  else
    select array_agg(o.project_id order by o.id), array_agg(o.id order by o.id), array_agg('deleted'::text),
           array_agg(jsonb_build_object('short_id', o.short_id, 'title', left(o.title, 200)) order by o.id)
      into v_project_ids, v_issue_ids, v_actions, v_data from old_rows o;
    select array_agg(x.project_id), array_agg(x.n) into v_delta_projects, v_deltas
      from (select project_id, -count(*) as n from old_rows where status = 'unresolved' group by project_id) x;
  end if;
  if v_project_ids is not null or v_deltas is not null then
    perform mesher_record_changes(v_project_ids, v_issue_ids, v_actions, v_data, v_delta_projects, v_deltas);
  end if;
  return null;
end $$;
comment on function tg_issues__notify is 'Records issue changes in issue_activity, keeps project_counters, tells channel mesher.';

-- Fires once per delete statement on issues, before the one above. issue_stats goes first: its row lock waits for a batch
-- that is writing events of the issue, and a batch that comes later finds no row and starts over (ingest_batch, MS001).
create or replace function tg_issues__delete_satellites() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  perform from issue_stats s join old_rows o on o.project_id = s.project_id and o.id = s.issue_id order by s.issue_id for update of s;
  delete from issue_stats s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from issue_hashes s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from issue_hourly s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from issue_tags s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from issue_users s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from events s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  return null;
end $$;
comment on function tg_issues__delete_satellites is 'Deletes what belongs to deleted issues.';

-- status_changed_at follows the status whoever changes it.
create or replace function tg_issues__status_changed_at() returns trigger
language plpgsql as $$
begin
  new.status_changed_at := clock_timestamp();
  return new;
end $$;
comment on function tg_issues__status_changed_at is 'Keeps issues.status_changed_at true, also for SQL by hand.';

-- TRUNCATE has no rows to tell: every project that had issues hears of a bulk change.
create or replace function tg_issues__truncated() returns trigger
language plpgsql security definer set search_path from current as $$
declare
  v_project_id bigint;
begin
  truncate issue_stats, issue_hashes, issue_hourly, issue_tags, issue_users, events;
  for v_project_id in
    update project_counters set unresolved = 0, version = version + 1 where last_short_number > 0 returning project_id
  loop
    perform mesher_notify(v_project_id, '"action":"bulk","changes":0');
  end loop;
  return null;
end $$;
comment on function tg_issues__truncated is 'Empties what belongs to issues and tells channel mesher.';

create or replace function tg_projects__counters() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  insert into project_counters (project_id) values (new.id) on conflict do nothing;
  return null;
end $$;
comment on function tg_projects__counters is 'Gives a new project its row in project_counters.';

-- Emits `keys`: every process forgets what it had cached of the key, and closes its sockets when it is revoked.
create or replace function tg_project_keys__notify() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  if tg_op <> 'INSERT' then
    perform pg_notify('mesher', json_build_object('project_id', old.project_id::text, 'action', 'keys', 'public_key', old.public_key,
      'revoked', tg_op = 'DELETE' or new.revoked_at is not null or new.public_key <> old.public_key)::text);
  end if;
  if tg_op <> 'DELETE' then
    perform pg_notify('mesher', json_build_object('project_id', new.project_id::text, 'action', 'keys', 'public_key', new.public_key,
      'revoked', new.revoked_at is not null)::text);
  end if;
  return null;
end $$;
comment on function tg_project_keys__notify is 'Tells channel mesher that a key was made, changed, revoked or deleted.';

create or replace function tg_api_tokens__notify() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  if tg_op = 'DELETE' then
    perform pg_notify('mesher', json_build_object('action', 'tokens', 'token_id', old.id::text, 'revoked', true)::text);
  elsif new.revoked_at is distinct from old.revoked_at then
    perform pg_notify('mesher', json_build_object('action', 'tokens', 'token_id', new.id::text, 'revoked', new.revoked_at is not null)::text);
  end if;
  return null;
end $$;
comment on function tg_api_tokens__notify is 'Tells channel mesher that a token was revoked or deleted.';

-- The number is the firing order: PostgreSQL fires triggers of one kind by name.
create or replace trigger _900_notify after insert on events
  referencing new table as new_rows for each statement execute function tg_events__notify();

create or replace trigger _100_status_changed_at before update of status on issues
  for each row when (new.status is distinct from old.status and new.status_changed_at is not distinct from old.status_changed_at)
  execute function tg_issues__status_changed_at();
create or replace trigger _100_delete_satellites after delete on issues
  referencing old table as old_rows for each statement execute function tg_issues__delete_satellites();
create or replace trigger _900_notify_insert after insert on issues
  referencing new table as new_rows for each statement execute function tg_issues__notify();
create or replace trigger _900_notify_update after update on issues
  referencing old table as old_rows new table as new_rows for each statement execute function tg_issues__notify();
create or replace trigger _900_notify_delete after delete on issues
  referencing old table as old_rows for each statement execute function tg_issues__notify();
create or replace trigger _900_notify_truncate after truncate on issues
  for each statement execute function tg_issues__truncated();

create or replace trigger _100_counters after insert on projects for each row execute function tg_projects__counters();
create or replace trigger _900_notify after insert or update or delete on project_keys
  for each row execute function tg_project_keys__notify();
create or replace trigger _900_notify after update or delete on api_tokens
  for each row execute function tg_api_tokens__notify();
