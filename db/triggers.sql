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

create or replace function mesher_payload_head(p_project_id bigint, p_action text) returns text
language sql stable as $$
  select '{"project_id":"' || p_project_id || '","action":"' || p_action || '","unresolved":' || coalesce(max(c.unresolved), 0)
    || ',"version":' || coalesce(max(c.version), 0) || ',"cursor":"' || pg_snapshot_xmin(pg_current_snapshot()) || '"'
    from project_counters c where c.project_id = p_project_id
$$;
comment on function mesher_payload_head is 'How every payload about a project begins: project, action, unresolved count with its version, cursor.';

-- Who acts: what the server said (set_config('mesher.actor', …, true)), else the role that a person took or logged in as.
create or replace function mesher_actor() returns text
language sql stable as $$
  select coalesce(nullif(current_setting('mesher.actor', true), ''), nullif(current_setting('role', true), 'none'), session_user)
$$;
comment on function mesher_actor is 'The acting user, token or rule as set by the server, else the database role.';

-- What the server, or a function here, has to say about the changes of this transaction: goes into issue_activity.data. With
-- merged_into a deleted issue is told as merged.
create or replace function mesher_because() returns jsonb
language sql stable as $$
  select nullif(current_setting('mesher.because', true), '')::jsonb
$$;
comment on function mesher_because is 'Details of the changes of this transaction, for issue_activity.data; null mostly.';

-- One event as people see it in a list, absent fields left out. Title and message are cut at 200 characters; with a smaller
-- p_cut every text is cut there. Concatenated from columns: json_build_object over a row costs twice as much, and this runs
-- for every event.
create or replace function mesher_event_entry(
  p_cut integer, p_id uuid, p_issue_id bigint, p_level text, p_environment text, p_release text, p_platform text,
  p_title text, p_culprit text, p_message text, p_transaction text, p_server_name text, p_user text,
  p_received_at timestamptz, p_timestamp timestamptz
) returns text language sql stable as $$
  select '{"id":"' || replace(p_id::text, '-', '') || '","issue_id":"' || p_issue_id || '","level":"' || p_level || '"'
   || coalesce(',"environment":' || to_json(case when p_cut < 200 then left(p_environment, 64) else p_environment end)::text, '')
   || coalesce(',"release":' || to_json(case when p_cut < 200 then left(p_release, p_cut) else p_release end)::text, '')
   || ',"platform":' || to_json(case when p_cut < 200 then left(p_platform, p_cut) else p_platform end)::text
   || ',"title":' || to_json(left(p_title, p_cut))::text
   || coalesce(',"culprit":' || to_json(case when p_cut < 200 then left(p_culprit, p_cut) else p_culprit end)::text, '')
   || coalesce(',"message":' || to_json(left(p_message, p_cut))::text, '')
   || coalesce(',"transaction":' || to_json(case when p_cut < 200 then left(p_transaction, p_cut) else p_transaction end)::text, '')
   || coalesce(',"server_name":' || to_json(case when p_cut < 200 then left(p_server_name, p_cut) else p_server_name end)::text, '')
   || coalesce(',"user":' || to_json(case when p_cut < 200 then left(p_user, p_cut) else p_user end)::text, '')
   || ',"received_at":' || to_json(p_received_at)::text || ',"timestamp":' || to_json(p_timestamp)::text || '}'
$$;
comment on function mesher_event_entry is 'One event of an events payload, without its body.';

-- Fires once per insert statement on events. Reads project_counters. Emits `events` payloads, as many as it takes to stay
-- under 7,900 bytes each. Never raises: an event that would take more than 3,000 bytes has every text cut at 40
-- characters (a control character takes six bytes). Takes no lock of its own.
create or replace function tg_events__notify() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_project_id bigint;
  v_told bigint;
  v_head text;
  v_entry text;
  v_list text := '';
begin
  for v_project_id, v_entry in
    select n.project_id,
           case when octet_length(n.entry) <= 3000 then n.entry
                else mesher_event_entry(40, n.id, n.issue_id, n.level, n.environment, n.release, n.platform, n.title, n.culprit,
                       n.message, n.transaction, n.server_name, n.user_key, n.received_at, n."timestamp") end
      from (
        select e.project_id, e.id, e.issue_id, e.level, e.environment, e.release, e.platform, e.title, e.culprit, e.message,
               e.transaction, e.server_name, e.user_key, e.received_at, e."timestamp",
               mesher_event_entry(200, e.id, e.issue_id, e.level, e.environment, e.release, e.platform, e.title, e.culprit,
                 e.message, e.transaction, e.server_name, e.user_key, e.received_at, e."timestamp") as entry
          from new_rows e
        offset 0
      ) n
     order by n.project_id
  loop
    if v_list <> '' and (v_project_id <> v_told or octet_length(v_list) + octet_length(v_entry) > 7600) then
      perform pg_notify('mesher', v_head || ',"events":[' || v_list || ']}');
      v_list := '';
    end if;
    if v_told is distinct from v_project_id then
      v_told := v_project_id;
      v_head := mesher_payload_head(v_project_id, 'events');
    end if;
    v_list := v_list || case when v_list = '' then '' else ',' end || v_entry;
  end loop;
  if v_list <> '' then
    perform pg_notify('mesher', v_head || ',"events":[' || v_list || ']}');
  end if;
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
    'user_count', o.user_count, 'dropped_count', o.dropped_count, 'status_changed_at', o.status_changed_at,
    'archived_until', o.archived_until, 'archived_until_event_count', o.archived_until_event_count,
    'archived_until_escalating', o.archived_until_escalating)
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
      perform pg_notify('mesher', mesher_payload_head(v_project_id, 'bulk') || ',"changes":' || v_changes || '}');
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
        perform pg_notify('mesher', mesher_payload_head(v_project_id, 'issues') || ',"issues":[' || v_list || ']}');
        v_list := '';
      end if;
      v_list := v_list || case when v_list = '' then '' else ',' end || v_entry;
    end loop;
    perform pg_notify('mesher', mesher_payload_head(v_project_id, 'issues') || ',"issues":[' || v_list || ']}');
  end loop;
end $$;
comment on function mesher_record_changes is 'Counts, records and tells the changes that one statement made to issues.';

-- What an archived issue waits for, with the limits in force.
create or replace function mesher_archived_until(p_until timestamptz, p_event_count bigint, p_escalating boolean, p_ceiling bigint) returns jsonb
language sql stable as $$
  select jsonb_strip_nulls(jsonb_build_object('archived_until', p_until, 'archived_until_event_count', p_event_count,
    'archived_until_escalating', nullif(p_escalating, false), 'escalation_ceiling', p_ceiling))
$$;
comment on function mesher_archived_until is 'What an archived issue waits for; an empty object for one that waits for nothing.';

-- Fires once per insert, update or delete statement on issues. Only changes people see are recorded. Lock order: the
-- issues (by the statement), then project_counters by project id; on delete as below.
create or replace function tg_issues__notify() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_project_ids bigint[];
  v_issue_ids bigint[];
  v_actions text[];
  v_data jsonb[];
  v_delta_projects bigint[];
  v_deltas bigint[];
begin
  if tg_op = 'INSERT' then
    select array_agg(n.project_id order by n.id), array_agg(n.id order by n.id), array_agg('created'::text), array_agg(mesher_because())
      into v_project_ids, v_issue_ids, v_actions, v_data from new_rows n;
    select array_agg(x.project_id), array_agg(x.n) into v_delta_projects, v_deltas
      from (select project_id, count(*) as n from new_rows where status = 'unresolved' group by project_id) x;
    -- An issue that was made by hand may have taken a number that ingest would give next.
    if mesher_actor() <> 'ingest' then
      update project_counters c set last_short_number = greatest(c.last_short_number, x.number)
        from (select project_id, max(substring(short_id from '-([0-9]{1,15})$')::bigint) as number from new_rows group by project_id) x
       where c.project_id = x.project_id and x.number > c.last_short_number;
    end if;
  elsif tg_op = 'UPDATE' then
    select array_agg(c.project_id order by c.id, c.n), array_agg(c.id order by c.id, c.n),
           array_agg(c.action order by c.id, c.n), array_agg(c.data order by c.id, c.n)
      into v_project_ids, v_issue_ids, v_actions, v_data
      from (
        select n.project_id, n.id, c.n, c.action, c.data
          from new_rows n
          join old_rows o on o.project_id = n.project_id and o.id = n.id
         cross join lateral (values
           (1, case when n.status = o.status and (n.status <> 'archived'
                      or (n.archived_until, n.archived_until_event_count, n.archived_until_escalating)
                         is not distinct from (o.archived_until, o.archived_until_event_count, o.archived_until_escalating)) then null
                    when n.status = 'unresolved' and n.regressed_at is distinct from o.regressed_at then 'regressed'
                    when n.status = 'unresolved' and n.escalated_at is distinct from o.escalated_at then 'escalated'
                    else n.status end,
               jsonb_build_object('from', o.status, 'to', n.status)
                 || case when n.status = 'archived' then mesher_archived_until(n.archived_until, n.archived_until_event_count, n.archived_until_escalating, n.escalation_ceiling)
                         else mesher_archived_until(o.archived_until, o.archived_until_event_count, o.archived_until_escalating, o.escalation_ceiling) end),
           (2, case when n.assigned_to is not distinct from o.assigned_to then null
                    when n.assigned_to is null then 'unassigned' else 'assigned' end,
               jsonb_build_object('from', o.assigned_to, 'to', n.assigned_to)),
           (3, case when (n.short_id, n.title, n.culprit, n.level, n.platform)
                      is distinct from (o.short_id, o.title, o.culprit, o.level, o.platform)
                      or n.regrouped_at is distinct from o.regrouped_at then 'updated' end, mesher_because())
         ) as c(n, action, data)
         where c.action is not null
      ) c;
    select array_agg(x.project_id), array_agg(x.n) into v_delta_projects, v_deltas
      from (select project_id, 1::bigint as n from new_rows where status = 'unresolved'
            union all select project_id, -1 from old_rows where status = 'unresolved') x;
  else
    select array_agg(o.project_id order by o.id), array_agg(o.id order by o.id), 
           array_agg(case when mesher_because() ? 'merged_into' then 'merged' else 'deleted' end),
           array_agg(coalesce(mesher_because(), '{}') || jsonb_build_object('short_id', o.short_id, 'title', left(o.title, 200)) order by o.id)
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

-- Fires once per delete statement on issues, after the one above, which takes project_counters as batches do: before any
-- row of an issue. issue_stats is where batches and deletes meet: its row lock waits for who is writing rows of the issue, and who comes later finds none (a batch starts over: ingest_batch, MS001). Nothing else that a batch may
-- hold is locked before it; otherwise deleting an issue under load is a deadlock. The events, which are most of the work
-- and which no batch waits for, go first, and what was written meanwhile goes last.
create or replace function tg_issues__delete_satellites() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  -- A merge has moved everything, and holds the lock.
  if mesher_because() ? 'merged_into' then
    delete from issue_stats s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
    return null;
  end if;
  delete from events s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  perform from issue_stats s join old_rows o on o.project_id = s.project_id and o.id = s.issue_id
    order by s.project_id, s.issue_id for update of s;
  delete from issue_stats s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  -- In the order in which fold_issue_tags locks them.
  perform from issue_hashes s join old_rows o on o.project_id = s.project_id and o.id = s.issue_id
    order by s.project_id, s.id for update of s;
  delete from hash_tags t using issue_hashes s, old_rows o
   where s.project_id = o.project_id and s.issue_id = o.id and t.project_id = s.project_id and t.hash_id = s.id;
  delete from issue_hashes s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from issue_hourly s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from issue_users s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from user_feedback s using old_rows o where s.project_id = o.project_id and s.issue_id = o.id;
  delete from merged_issues s using old_rows o where s.project_id = o.project_id and s.into_issue_id = o.id;
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

-- The most events that an hour of this issue may have before it counts as a spike, from the hourly counts of the last seven
-- days: ten times the mean, but twice the busiest hour (else a job that fails every night comes back every night), and
-- projects.escalation_floor at least. An issue younger than that has its mean of the hours that it has been there.
create or replace function mesher_escalation_ceiling(p_project_id bigint, p_issue_id bigint, p_first_seen timestamptz) returns bigint
language sql stable as $$
  select greatest(p.escalation_floor, 2 * coalesce(max(h.event_count), 0),
    ceil(10 * coalesce(sum(h.event_count), 0) / least(168, greatest(1, ceil(extract(epoch from now() - p_first_seen) / 3600)))))::bigint
    from projects p
    left join issue_hourly h on h.project_id = p.id and h.issue_id = p_issue_id and h.hour > now() - interval '7 days'
   where p.id = p_project_id
   group by p.escalation_floor
$$;
comment on function mesher_escalation_ceiling is 'Events an hour above which an issue that was archived until it escalates comes back.';

-- Conditions belong to archived issues: they are gone when it is not archived any more. The ceiling is worked out when an
-- issue is archived until it escalates.
create or replace function tg_issues__archived() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if new.status <> 'archived' then
    new.archived_until := null;
    new.archived_until_event_count := null;
    new.archived_until_escalating := false;
  end if;
  if not new.archived_until_escalating then
    new.escalation_ceiling := null;
    new.escalation_ceiling_at := null;
  elsif new.escalation_ceiling is null then
    new.escalation_ceiling := mesher_escalation_ceiling(new.project_id, new.id, new.first_seen);
    new.escalation_ceiling_at := now();
  end if;
  return new;
end $$;
comment on function tg_issues__archived is 'Keeps what an archived issue waits for consistent, also for SQL by hand.';

-- TRUNCATE has no rows to tell: every project that had issues hears of a bulk change.
create or replace function tg_issues__truncated() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_project_id bigint;
begin
  truncate issue_stats, issue_hashes, issue_hourly, hash_tags, issue_tag_deltas, issue_users, merged_issues, events;
  for v_project_id in
    update project_counters set unresolved = 0, version = version + 1 where last_short_number > 0 returning project_id
  loop
    -- For whoever comes back later: the replay turns it into a resync.
    insert into issue_activity (project_id, issue_id, action, actor) values (v_project_id, 0, 'truncated', left(mesher_actor(), 200));
    perform pg_notify('mesher', mesher_payload_head(v_project_id, 'bulk') || ',"changes":0}');
  end loop;
  return null;
end $$;
comment on function tg_issues__truncated is 'Empties what belongs to issues and tells channel mesher.';

create or replace function tg_projects__counters() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  insert into project_counters (project_id) values (new.id) on conflict do nothing;
  insert into project_new_issues (project_id) values (new.id) on conflict do nothing;
  insert into project_regroups (project_id) values (new.id) on conflict do nothing;
  return null;
end $$;
comment on function tg_projects__counters is 'Gives a new project its rows of counters.';

-- The issues of a deleted project go by their foreign key, with what belongs to them; this is the rest.
create or replace function tg_projects__delete_satellites() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  delete from event_ids where project_id = old.id;
  delete from project_hourly where project_id = old.id;
  delete from issue_tag_deltas where project_id = old.id;
  delete from issue_activity where project_id = old.id;
  return null;
end $$;
comment on function tg_projects__delete_satellites is 'Deletes what a deleted project leaves outside its issues.';

-- Emits `keys`: every process forgets what it had cached of the key, and closes its sockets when it is revoked.
create or replace function tg_project_keys__notify() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
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

-- Emits `keys` for each key of a project whose scrubbing was changed: what is cached with a key is forgotten.
create or replace function tg_projects__scrubbing() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  perform pg_notify('mesher', json_build_object('project_id', k.project_id::text, 'action', 'keys', 'public_key', k.public_key,
      'revoked', false)::text)
    from project_keys k where k.project_id = new.id and k.revoked_at is null;
  return null;
end $$;
comment on function tg_projects__scrubbing is 'Tells channel mesher that what is scrubbed from the events of a project was changed.';

-- Emits `access`: every process forgets whom it knew, and asks the tables whose open streams have to close. What changed is
-- not said: it is nobody's business who may listen, and there is one answer to all of it.
create or replace function tg_access__notify() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  perform pg_notify('mesher', '{"action":"access"}');
  return null;
end $$;
comment on function tg_access__notify is 'Tells channel mesher that somebody may do less, or more, than before.';

-- The number is the firing order: PostgreSQL fires triggers of one kind by name.
create or replace trigger _900_notify after insert on events
  referencing new table as new_rows for each statement execute function tg_events__notify();

create or replace trigger _100_status_changed_at before update of status on issues
  for each row when (new.status is distinct from old.status and new.status_changed_at is not distinct from old.status_changed_at)
  execute function tg_issues__status_changed_at();
create or replace trigger _200_archived before insert or update of status, archived_until, archived_until_event_count, archived_until_escalating on issues
  for each row execute function tg_issues__archived();
create or replace trigger _900_notify_insert after insert on issues
  referencing new table as new_rows for each statement execute function tg_issues__notify();
create or replace trigger _900_notify_update after update on issues
  referencing old table as old_rows new table as new_rows for each statement execute function tg_issues__notify();
create or replace trigger _900_notify_delete after delete on issues
  referencing old table as old_rows for each statement execute function tg_issues__notify();
create or replace trigger _950_delete_satellites after delete on issues
  referencing old table as old_rows for each statement execute function tg_issues__delete_satellites();
create or replace trigger _900_notify_truncate after truncate on issues
  for each statement execute function tg_issues__truncated();

create or replace trigger _100_counters after insert on projects for each row execute function tg_projects__counters();
create or replace trigger _950_delete_satellites after delete on projects
  for each row execute function tg_projects__delete_satellites();
create or replace trigger _900_scrubbing after update of scrub_data, scrub_defaults, scrub_ip_addresses, sensitive_fields, safe_fields on projects
  for each row execute function tg_projects__scrubbing();
create or replace trigger _900_notify after insert or delete or update of public_key, project_id, revoked_at on project_keys
  for each row execute function tg_project_keys__notify();
create or replace trigger _900_notify after update of revoked_at, expires_at, scope, only_project_id, organization_id or delete on api_tokens
  for each row execute function tg_access__notify();
create or replace trigger _900_notify after update of revoked_at, user_id or delete on sessions
  for each row execute function tg_access__notify();
create or replace trigger _900_notify after insert or update or delete on memberships
  for each row execute function tg_access__notify();
create or replace trigger _900_notify after update of email, disabled_at or delete on users
  for each row execute function tg_access__notify();

-- Names of former versions.
drop function if exists tg_api_tokens__notify();
