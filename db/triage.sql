-- What people and timers do with issues that takes more than one UPDATE: merging, taking apart, coming back in time. Applied
-- whole after the migrations; running it twice changes nothing. `select mesher_merge_issues(1, 42, array[43, 44])` typed into
-- psql does what the API does.
--
-- Lock order, so that none of this deadlocks with batches (db/ingest_batch.sql), deletes (db/triggers.sql) or each other:
--   projects (key share), project_regroups, issues, events, project_counters, issue_stats, then what hangs on the issues.
-- The events are most of the work and no batch waits for them: they go before issue_stats is locked, and what was written
-- meanwhile goes after. A batch that had looked up its hashes before finds issue_stats gone or another version in
-- project_regroups once it gets there, and begins anew.
-- SQLSTATE MS005: there is no such issue or hash in this project or issue. MS006: this cannot be merged or taken apart.

-- Puts the hashes of p_issue_ids and all that belongs to them into p_into; returns how many issues are gone. Heard: `merged`
-- for each of them, `updated` for p_into. mesher_unmerge undoes it.
create or replace function mesher_merge_issues(p_project_id bigint, p_into bigint, p_issue_ids bigint[]) returns integer
language plpgsql set search_path from current as $$
declare
  v_ids bigint[] := array(select distinct x.id from unnest(p_issue_ids) as x(id) where x.id is not null order by x.id);
  v_found bigint[];
  v_horizon xid8;
  v_moved bigint[];       -- of each of v_ids, events
  v_issue_id bigint;
  v_events bigint;
  v_users bigint;
  v_first_seen timestamptz;
  v_merged jsonb;
begin
  if p_into = any (v_ids) then
    raise exception 'an issue cannot be merged into itself' using errcode = 'MS006';
  end if;
  perform from projects where id = p_project_id for key share;
  update project_regroups set version = version + 1 where project_id = p_project_id;
  v_found := array(select id from issues where project_id = p_project_id and id = any (p_into || v_ids) order by id for update);
  if cardinality(v_found) < 1 + cardinality(v_ids) then
    raise exception 'project % has no issue %', p_project_id,
      (select min(x.id) from unnest(p_into || v_ids) as x(id) where x.id <> all (v_found)) using errcode = 'MS005';
  end if;
  if exists (select from issue_hashes where project_id = p_project_id and hash = '00000000-0000-0000-0000-000000000000' and issue_id = any (v_found)) then
    raise exception 'the issue for too many new issues cannot be merged: its events are of many errors' using errcode = 'MS006';
  end if;
  if cardinality(v_ids) = 0 then return 0; end if;

  -- Made by hand: what has no hash gets one, so that it can be found again.
  insert into issue_hashes (project_id, hash, issue_id)
  select p_project_id, gen_random_uuid(), x.id from unnest(v_ids) as x(id)
   where not exists (select from issue_hashes h where h.project_id = p_project_id and h.issue_id = x.id);

  v_horizon := pg_snapshot_xmin(pg_current_snapshot());
  v_moved := array_fill(0::bigint, array[cardinality(v_ids)]);
  for v_pass in 1 .. 2 loop
    if v_pass = 2 then
      perform from project_counters where project_id = p_project_id for update;
      perform from issue_stats where project_id = p_project_id and issue_id = any (v_found) order by issue_id for update;
    end if;
    for v_issue_id, v_events in
      with moved as (
        update events e set issue_id = p_into, hash = coalesce(e.hash, f.hash)
          from (select distinct on (h.issue_id) h.issue_id, h.hash from issue_hashes h
                 where h.project_id = p_project_id and h.issue_id = any (v_ids) order by h.issue_id, h.created_at, h.hash) f
         where e.project_id = p_project_id and e.issue_id = f.issue_id and (v_pass = 1 or e.xid >= v_horizon)
        returning f.issue_id
      )
      select m.issue_id, count(*) from moved m group by m.issue_id
    loop
      v_moved[array_position(v_ids, v_issue_id)] := v_moved[array_position(v_ids, v_issue_id)] + v_events;
    end loop;
  end loop;

  update merged_issues set into_issue_id = p_into where project_id = p_project_id and into_issue_id = any (v_ids);
  insert into merged_issues (project_id, issue_id, into_issue_id, into_first_seen, short_id, title, culprit, level, platform, status,
                             assigned_to, first_seen, last_seen, expired_count, dropped_count)
  select i.project_id, i.id, p_into, t.first_seen, i.short_id, i.title, i.culprit, i.level, i.platform, i.status,
         i.assigned_to, i.first_seen, coalesce(s.last_seen, i.first_seen), coalesce(s.event_count, m.events) - m.events, coalesce(s.dropped_count, 0)
    from unnest(v_ids, v_moved) as m(id, events)
    join issues i on i.project_id = p_project_id and i.id = m.id
    join issues t on t.project_id = p_project_id and t.id = p_into
    left join issue_stats s on s.project_id = i.project_id and s.issue_id = i.id;
  update issue_hashes set issue_id = p_into, merged_from = coalesce(merged_from, issue_id)
   where project_id = p_project_id and issue_id = any (v_ids);

  update user_feedback set issue_id = p_into where project_id = p_project_id and issue_id = any (v_ids);

  with added as (
    insert into issue_users (project_id, issue_id, user_key)
    select distinct p_project_id, p_into, u.user_key from issue_users u
     where u.project_id = p_project_id and u.issue_id = any (v_ids) order by u.user_key
    on conflict do nothing
    returning 1
  )
  select count(*) into v_users from added;
  delete from issue_users where project_id = p_project_id and issue_id = any (v_ids);
  insert into issue_hourly as t (project_id, issue_id, hour, event_count)
  select p_project_id, p_into, h.hour, sum(h.event_count) from issue_hourly h
   where h.project_id = p_project_id and h.issue_id = any (v_ids) group by h.hour order by h.hour
  on conflict (project_id, issue_id, hour) do update set event_count = t.event_count + excluded.event_count;
  delete from issue_hourly where project_id = p_project_id and issue_id = any (v_ids);
  select coalesce(sum(event_count), 0) into v_events from issue_stats where project_id = p_project_id and issue_id = any (v_ids);
  insert into issue_stats as t (project_id, issue_id, event_count, user_count, dropped_count, last_seen)
  select p_project_id, p_into, v_events, v_users, sum(s.dropped_count), max(s.last_seen) from issue_stats s
   where s.project_id = p_project_id and s.issue_id = any (v_ids) having count(*) > 0
  on conflict (project_id, issue_id) do update
    set event_count = t.event_count + excluded.event_count, user_count = t.user_count + excluded.user_count,
        dropped_count = t.dropped_count + excluded.dropped_count, last_seen = greatest(t.last_seen, excluded.last_seen);

  select min(first_seen), jsonb_agg(jsonb_build_object('issue_id', id::text, 'short_id', short_id) order by id) into v_first_seen, v_merged
    from issues where project_id = p_project_id and id = any (v_ids);
  perform set_config('mesher.because', jsonb_build_object('merged_into', p_into::text)::text, true);
  delete from issues where project_id = p_project_id and id = any (v_ids);
  perform set_config('mesher.because', jsonb_build_object('merged', v_merged)::text, true);
  update issues set first_seen = least(first_seen, v_first_seen), regrouped_at = clock_timestamp(),
                    archived_until_event_count = archived_until_event_count + v_events
   where project_id = p_project_id and id = p_into;
  perform set_config('mesher.because', '', true);
  return cardinality(v_ids);
end $$;
comment on function mesher_merge_issues is 'Merges issues into another one of the project; mesher_unmerge undoes it.';

-- Takes hashes out of an issue, with their events and all that was counted of them; returns the issue that has them then. That
-- is the one that was merged, as it was, when they all came from it; else a new one. What is counted of events that retention
-- has removed since the merge stays with p_issue_id: nothing tells any more whose it was.
-- Heard: `created` (or `updated`, when it was restored before) for the one, `updated` for the other.
create or replace function mesher_unmerge(p_project_id bigint, p_issue_id bigint, p_hashes uuid[]) returns bigint
language plpgsql set search_path from current as $$
declare
  v_hashes uuid[] := array(select distinct x.hash from unnest(p_hashes) as x(hash) where x.hash is not null);
  v_to bigint;
  v_old merged_issues;
  v_exists boolean;
  v_horizon xid8;
  v_slug text;
  v_number bigint;
  v_events bigint;
  v_users bigint;
  v_gone bigint;
  v_first_seen timestamptz;
  v_last_seen timestamptz;
begin
  perform from projects where id = p_project_id for key share;
  update project_regroups set version = version + 1 where project_id = p_project_id;
  -- Nobody else moves hashes of the project now; but the issues have to be locked before they are looked at.
  select max(h.merged_from) into v_to from issue_hashes h
   where h.project_id = p_project_id and h.hash = any (v_hashes)
  having count(*) = count(h.merged_from) and count(distinct h.merged_from) = 1;
  perform from issues where project_id = p_project_id and id in (p_issue_id, v_to) order by id for update;
  if not exists (select from issues where project_id = p_project_id and id = p_issue_id) then
    raise exception 'project % has no issue %', p_project_id, p_issue_id using errcode = 'MS005';
  end if;
  if cardinality(v_hashes) = 0 or (select count(*) from issue_hashes where project_id = p_project_id and issue_id = p_issue_id and hash = any (v_hashes)) < cardinality(v_hashes) then
    raise exception 'not all of these hashes belong to issue %', p_issue_id using errcode = 'MS005';
  end if;
  if not exists (select from issue_hashes where project_id = p_project_id and issue_id = p_issue_id and hash <> all (v_hashes)) then
    raise exception 'these are all hashes of issue %: one has to stay', p_issue_id using errcode = 'MS006';
  end if;
  v_exists := exists (select from issues where project_id = p_project_id and id = v_to);
  select * into v_old from merged_issues where project_id = p_project_id and issue_id = v_to and into_issue_id = p_issue_id;
  if v_to is null or not v_exists and v_old.issue_id is null then
    v_to := nextval(pg_get_serial_sequence('issues', 'id'));
  end if;

  v_horizon := pg_snapshot_xmin(pg_current_snapshot());
  update events set issue_id = v_to where project_id = p_project_id and issue_id = p_issue_id and hash = any (v_hashes);
  perform from project_counters where project_id = p_project_id for update;
  perform from issue_stats where project_id = p_project_id and issue_id in (p_issue_id, v_to) order by issue_id for update;
  update events set issue_id = v_to
   where project_id = p_project_id and issue_id = p_issue_id and hash = any (v_hashes) and xid >= v_horizon;

  select count(*), min(received_at), max(received_at) into v_events, v_first_seen, v_last_seen
    from events where project_id = p_project_id and issue_id = v_to and hash = any (v_hashes);
  with added as (
    insert into issue_users (project_id, issue_id, user_key)
    select distinct p_project_id, v_to, e.user_key from events e
     where e.project_id = p_project_id and e.issue_id = v_to and e.hash = any (v_hashes) and e.user_key is not null
     order by e.user_key
    on conflict do nothing
    returning 1
  )
  select count(*) into v_users from added;
  with gone as (
    delete from issue_users u
     where u.project_id = p_project_id and u.issue_id = p_issue_id
       and u.user_key in (select e.user_key from events e where e.project_id = p_project_id and e.issue_id = v_to and e.hash = any (v_hashes))
       and u.user_key not in (select e.user_key from events e where e.project_id = p_project_id and e.issue_id = p_issue_id and e.user_key is not null)
    returning 1
  )
  select count(*) into v_gone from gone;

  with counted as (
    select date_trunc('hour', e.received_at, 'UTC') as hour, count(*) as events from events e
     where e.project_id = p_project_id and e.issue_id = v_to and e.hash = any (v_hashes)
     group by 1
  ), taken as (
    update issue_hourly h set event_count = h.event_count - c.events
      from counted c where h.project_id = p_project_id and h.issue_id = p_issue_id and h.hour = c.hour
  )
  insert into issue_hourly as t (project_id, issue_id, hour, event_count)
  select p_project_id, v_to, c.hour, c.events from counted c
  on conflict (project_id, issue_id, hour) do update set event_count = t.event_count + excluded.event_count;
  delete from issue_hourly where project_id = p_project_id and issue_id = p_issue_id and event_count <= 0;

  v_events := v_events + coalesce(v_old.expired_count, 0);
  update issue_stats s
     set event_count = s.event_count - v_events, user_count = s.user_count - v_gone,
         dropped_count = s.dropped_count - coalesce(v_old.dropped_count, 0),
         last_seen = coalesce((select max(e.received_at) from events e where e.project_id = p_project_id and e.issue_id = p_issue_id), s.last_seen)
   where s.project_id = p_project_id and s.issue_id = p_issue_id;
  insert into issue_stats as t (project_id, issue_id, event_count, user_count, dropped_count, last_seen)
  select p_project_id, v_to, v_events, v_users, coalesce(v_old.dropped_count, 0), coalesce(v_last_seen, v_old.last_seen, i.first_seen)
    from issues i where i.project_id = p_project_id and i.id = p_issue_id
  on conflict (project_id, issue_id) do update
    set event_count = t.event_count + excluded.event_count, user_count = t.user_count + excluded.user_count,
        last_seen = greatest(t.last_seen, v_last_seen);
  update user_feedback f set issue_id = v_to
    from events e
   where f.project_id = p_project_id and f.issue_id = p_issue_id and e.project_id = f.project_id and e.id = f.event_id and e.issue_id = v_to;
  update issue_hashes set issue_id = v_to, merged_from = null where project_id = p_project_id and hash = any (v_hashes);

  perform set_config('mesher.because', jsonb_build_object('unmerged_from', p_issue_id::text)::text, true);
  if v_exists then
    update issues set regrouped_at = clock_timestamp() where project_id = p_project_id and id = v_to;
  elsif v_old.issue_id is not null then
    insert into issues (project_id, id, short_id, title, culprit, level, platform, status, assigned_to, first_seen)
    values (p_project_id, v_to, v_old.short_id, v_old.title, v_old.culprit, v_old.level, v_old.platform, v_old.status, v_old.assigned_to, v_old.first_seen);
    delete from merged_issues where project_id = p_project_id and issue_id = v_to;
  else
    select upper(slug) into v_slug from projects where id = p_project_id;
    update project_counters set last_short_number = last_short_number + 1 where project_id = p_project_id returning last_short_number into v_number;
    insert into issues (project_id, id, short_id, title, culprit, level, platform, first_seen)
    select p_project_id, v_to, v_slug || '-' || v_number, coalesce(e.title, i.title), case when e.id is null then i.culprit else e.culprit end,
           coalesce(e.level, i.level), coalesce(e.platform, i.platform), coalesce(v_first_seen, i.first_seen)
      from issues i
      left join (select * from events where project_id = p_project_id and issue_id = v_to order by received_at limit 1) e on true
     where i.project_id = p_project_id and i.id = p_issue_id;
  end if;
  perform set_config('mesher.because', jsonb_build_object('unmerged_into', v_to::text)::text, true);
  update issues i
     set regrouped_at = clock_timestamp(), archived_until_event_count = i.archived_until_event_count - v_events,
         first_seen = case when v_old.issue_id is null then i.first_seen
                           else least(v_old.into_first_seen, (select min(m.first_seen) from merged_issues m where m.project_id = p_project_id and m.into_issue_id = p_issue_id)) end
   where i.project_id = p_project_id and i.id = p_issue_id;
  perform set_config('mesher.because', '', true);
  return v_to;
end $$;
comment on function mesher_unmerge is 'Takes hashes out of an issue, into the issue that was merged or a new one.';

-- Archived issues whose time has come are unresolved again; returns how many. Any number of sessions may call it at once.
create or replace function mesher_unarchive_due(p_project_id bigint, p_most integer) returns integer
language plpgsql set search_path from current as $$
declare v_issues integer;
begin
  perform set_config('mesher.actor', 'timer', true);
  update issues set status = 'unresolved'
   where project_id = p_project_id
     and id = any (array(select id from issues where project_id = p_project_id and archived_until <= now() order by id limit p_most for update skip locked));
  get diagnostics v_issues = row_count;
  perform set_config('mesher.actor', '', true);
  return v_issues;
end $$;
comment on function mesher_unarchive_due is 'Brings back archived issues whose time has come.';

-- Once a day what counts as a spike of an archived issue follows what it has been doing; returns how many were due.
create or replace function mesher_refresh_ceilings(p_project_id bigint) returns integer
language plpgsql set search_path from current as $$
declare v_issues integer;
begin
  update issues set escalation_ceiling = mesher_escalation_ceiling(project_id, id, first_seen), escalation_ceiling_at = now()
   where project_id = p_project_id
     and id = any (array(select id from issues where project_id = p_project_id and archived_until_escalating
                            and escalation_ceiling_at < now() - interval '1 day' order by id for update skip locked));
  get diagnostics v_issues = row_count;
  return v_issues;
end $$;
comment on function mesher_refresh_ceilings is 'Works out anew, once a day, above how many events an hour an archived issue escalates.';
