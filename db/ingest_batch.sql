-- The hot path: one call writes one batch of one project. Applied whole after the migrations; running it twice changes
-- nothing. The first argument is the project, so that Citus can delegate the call to the worker that holds it.
--
-- A few set-based statements in this order: ids, hashes, events, and only then what batches share, so that hot rows are
-- locked late and briefly (measured: 0.71 to 0.83 of bare COPY in this order, 0.36 with the upserts first).
-- Lock order, the same in every batch, each step sorted by key, so that batches never deadlock, nor with people, who lock
-- issues, then project_counters, then (on delete) issue_stats:
--   event_ids, issue_hashes, issues (regression), project_counters, issue_users, issue_stats, issue_hourly, project_hourly.
-- Tags are the many rows: a batch of 250 events touches 1,700 hot ones. So a batch only appends what it counted to
-- issue_tag_deltas, and fold_issue_tags adds that to issue_tags about once a second: 24,500 events/s instead of 5,500.

-- Creates what is missing for events between two days. Attaching, not `partition of`, so that ingest is never locked out.
create or replace function ensure_event_partitions(p_from date, p_to date) returns void
language plpgsql set search_path from current as $$
declare
  v_day date;
  v_name text;
begin
  perform pg_advisory_xact_lock(hashtext('mesher.event_partitions'));
  for v_day in select generate_series(p_from, p_to, interval '1 day') loop
    v_name := 'events_' || to_char(v_day, 'YYYYMMDD');
    if to_regclass(v_name) is null then
      execute format('create table %I (like events including all)', v_name);
      execute format('alter table events attach partition %I for values from (%L) to (%L)', v_name,
        v_day::text || ' 00:00:00+00', (v_day + 1)::text || ' 00:00:00+00');
    end if;
  end loop;
end $$;
comment on function ensure_event_partitions is 'Creates the daily partitions of events between two days (UTC) that do not exist yet.';

-- Issues for hashes that were just taken. issue_stats comes before issues: the trigger on issues reports the counts.
create or replace function ingest_create_issues(
  p_project_id bigint, p_new_groups integer[], p_issue_ids bigint[], p_groups integer[], p_fresh boolean[],
  p_received_at timestamptz[], p_levels text[], p_platforms text[], p_titles text[], p_culprits text[], p_users text[]
) returns void language plpgsql set search_path from current as $$
declare
  v_last_number bigint;
  v_slug text;
begin
  update project_counters set last_short_number = last_short_number + cardinality(p_issue_ids)
   where project_id = p_project_id
  returning last_short_number - cardinality(p_issue_ids) into v_last_number;
  select upper(slug) into v_slug from projects where id = p_project_id;
  if v_slug is null or v_last_number is null then
    raise exception 'project % does not exist', p_project_id using errcode = 'MS002';
  end if;

  insert into issue_stats (project_id, issue_id, event_count, user_count, last_seen)
  select p_project_id, c.issue_id, count(*), count(distinct e.user_key), max(e.received_at)
    from unnest(p_new_groups, p_issue_ids) as c(n, issue_id)
    join unnest(p_groups, p_fresh, p_received_at, p_users) as e(n, fresh, received_at, user_key) on e.n = c.n and e.fresh
   group by c.issue_id;

  perform set_config('mesher.actor', 'ingest', true);
  insert into issues (project_id, id, short_id, title, culprit, level, platform, first_seen, status_changed_at)
  select p_project_id, f.issue_id, v_slug || '-' || (v_last_number + row_number() over (order by f.n)),
         f.title, f.culprit, f.level, f.platform, f.received_at, f.received_at
    from (
      select distinct on (c.issue_id) c.issue_id, e.n, e.title, e.culprit, e.level, e.platform, e.received_at
        from unnest(p_new_groups, p_issue_ids) as c(grp, issue_id)
        join unnest(p_groups, p_fresh, p_titles, p_culprits, p_levels, p_platforms, p_received_at) with ordinality
          as e(grp, fresh, title, culprit, level, platform, received_at, n) on e.grp = c.grp and e.fresh
       order by c.issue_id, e.n
    ) f
   order by f.n;
  perform set_config('mesher.actor', '', true);
end $$;
comment on function ingest_create_issues is 'Part of ingest_batch: creates the issues of hashes that are new.';

-- Reopens the resolved ones among the issues of these hashes, in the order of their ids.
create or replace function ingest_reopen_issues(p_project_id bigint, p_hashes uuid[]) returns void
language plpgsql set search_path from current as $$
declare
  v_resolved bigint[];
begin
  v_resolved := array(select distinct i.id from issue_hashes h
                        join issues i on i.project_id = h.project_id and i.id = h.issue_id
                       where h.project_id = p_project_id and h.hash = any (p_hashes) and i.status = 'resolved');
  if cardinality(v_resolved) = 0 then return; end if;
  perform from issues where project_id = p_project_id and id = any (v_resolved) order by id for update;
  perform set_config('mesher.actor', 'ingest', true);
  update issues set status = 'unresolved', status_changed_at = clock_timestamp(), regressed_at = clock_timestamp()
   where project_id = p_project_id and id = any (v_resolved) and status = 'resolved';
  perform set_config('mesher.actor', '', true);
end $$;
comment on function ingest_reopen_issues is 'Part of ingest_batch: an event of a resolved issue is a regression.';

-- p_hashes holds each fingerprint hash once, p_components what each is of, made by p_algo; the other arrays are parallel,
-- one element an event, and p_groups is the 1-based number of its hash. Tags come counted, because that costs PostgreSQL three times what it costs the caller:
-- p_tag_keys and p_tag_values hold each pair once, and p_tag_groups, p_tag_pairs, p_tag_counts how many events of a hash
-- have it. Events that were stored before must not be in these counts; p_uncounted names those that were left out, in order.
-- r_statuses has one letter an event: a accepted, d dropped (its issue is discarded); an event id that was there before
-- is answered as it was the first time. r_issue_ids is null for a dropped event whose issue is gone.
-- SQLSTATE MS001: an issue was deleted meanwhile, call again. MS002: the project does not exist. MS003: p_uncounted is not
-- what was stored before; the detail is `project:n,n,…` of what was, count again without these.
create or replace function ingest_batch(
  p_project_id bigint, p_hashes uuid[], p_ids uuid[], p_groups integer[], p_received_at timestamptz[], p_timestamps timestamptz[],
  p_levels text[], p_environments text[], p_releases text[], p_platforms text[], p_titles text[], p_culprits text[],
  p_messages text[], p_transactions text[], p_server_names text[], p_users text[], p_payloads json[],
  p_tag_keys text[], p_tag_values text[], p_tag_groups integer[], p_tag_pairs integer[], p_tag_counts integer[],
  p_uncounted integer[] default '{}', p_algo text default null, p_components json[] default null,
  out r_statuses text, out r_issue_ids bigint[]
) language plpgsql set search_path from current as $$
declare
  v_fresh boolean[];      -- seen for the first time
  v_keep boolean[];       -- fresh, and its issue is not discarded
  v_hashes uuid[];
  v_missing uuid[];
  v_new_groups integer[];
  v_created bigint[] := '{}';
  v_issue_ids bigint[];   -- of each hash
  v_discarded boolean[];  -- of each hash
  v_uncounted integer[] := '{}';
  v_new_ids uuid[];
  v_all_fresh boolean;
  v_known integer;
  v_updated integer;
begin
  -- 1. Each id once. Hardly ever is one there already: a plain insert costs half of one with `on conflict`, which looks
  -- first and writes to the log twice.
  begin
    insert into event_ids (project_id, event_id, received_at)
    select p_project_id, e.id, e.received_at
      from (select unnest(p_ids) as id, unnest(p_received_at) as received_at) e order by e.id;
    v_all_fresh := true;
  exception when unique_violation then
    v_all_fresh := false;
  end;
  if v_all_fresh then
    v_fresh := array_fill(true, array[cardinality(p_ids)]);
  else
    with fresh as (
      insert into event_ids (project_id, event_id, received_at)
      select p_project_id, e.id, e.received_at from unnest(p_ids, p_received_at) as e(id, received_at) order by e.id
      on conflict do nothing
      returning event_id
    )
    select array_agg(event_id) into v_new_ids from fresh;
    select array_agg(f.id is not null and e.n = f.n order by e.n) into v_fresh
      from unnest(p_ids) with ordinality as e(id, n)
      left join (select i.id, min(i.n) as n from unnest(p_ids) with ordinality as i(id, n) where i.id = any (v_new_ids) group by i.id) f on f.id = e.id;
  end if;

  -- 2. The issue of each hash, and so of each event.
  v_hashes := case when v_all_fresh then p_hashes
                   else array(select distinct p_hashes[e.grp] from unnest(p_groups, v_fresh) as e(grp, fresh) where e.fresh) end;
  if cardinality(v_hashes) > 0 then
    v_missing := array(select g.hash from unnest(v_hashes) as g(hash)
                        where not exists (select from issue_hashes h where h.project_id = p_project_id and h.hash = g.hash)
                        order by g.hash);
    if cardinality(v_missing) > 0 then
      with created as (
        insert into issue_hashes (project_id, hash, issue_id, algo, components)
        select p_project_id, m.hash, nextval(pg_get_serial_sequence('issues', 'id')), p_algo, m.components
          from unnest(p_hashes, p_components) as m(hash, components) where m.hash = any (v_missing) order by m.hash
        on conflict do nothing
        returning hash, issue_id
      )
      select coalesce(array_agg(g.n order by c.issue_id), '{}'), coalesce(array_agg(c.issue_id order by c.issue_id), '{}')
        into v_new_groups, v_created
        from created c join unnest(p_hashes) with ordinality as g(hash, n) on g.hash = c.hash;
    end if;
    if cardinality(v_created) < cardinality(v_hashes) then
      perform ingest_reopen_issues(p_project_id, v_hashes);
    end if;
    if cardinality(v_created) > 0 then
      perform ingest_create_issues(p_project_id, v_new_groups, v_created, p_groups, v_fresh, p_received_at, p_levels,
                                   p_platforms, p_titles, p_culprits, p_users);
    end if;
  end if;
  select array_agg(i.id order by g.n), array_agg(i.status = 'discarded' order by g.n) into v_issue_ids, v_discarded
    from unnest(p_hashes) with ordinality as g(hash, n)
    left join issue_hashes h on h.project_id = p_project_id and h.hash = g.hash
    left join issues i on i.project_id = h.project_id and i.id = h.issue_id;
  r_issue_ids := array(select v_issue_ids[e.grp] from unnest(p_groups) with ordinality as e(grp, n) order by e.n);
  if v_all_fresh and not true = any (v_discarded) then
    v_keep := v_fresh;
    r_statuses := repeat('a', cardinality(p_ids));
    if array_position(v_issue_ids, null) is not null then v_keep := array[null]; end if;
  else
    select array_agg(e.fresh and not v_discarded[e.grp] order by e.n),
           string_agg(case when v_discarded[e.grp] then 'd' else 'a' end, '' order by e.n)
      into v_keep, r_statuses
      from unnest(p_groups, v_fresh) with ordinality as e(grp, fresh, n);
    v_uncounted := array(select e.n::integer from unnest(v_fresh) with ordinality as e(fresh, n) where not e.fresh order by e.n);
  end if;
  if array_position(v_keep, null) is not null then  -- a fresh event without an issue
    raise exception 'an issue was deleted while its events were written' using errcode = 'MS001';
  end if;
  if v_uncounted <> p_uncounted then
    raise exception 'tags of events that were stored before are counted' using errcode = 'MS003',
      detail = p_project_id || ':' || array_to_string(v_uncounted, ',');
  end if;

  -- 3. The events.
  insert into events (project_id, issue_id, hash, received_at, timestamp, id, level, environment, release, platform, title,
                      culprit, message, transaction, server_name, user_key, payload)
  select p_project_id, e.issue_id, p_hashes[e.grp], e.received_at, e."timestamp", e.id, e.level, e.environment, e.release, e.platform, e.title,
         e.culprit, e.message, e.transaction, e.server_name, e.user_key, e.payload
    from (select unnest(p_ids) as id, unnest(r_issue_ids) as issue_id, unnest(p_groups) as grp, unnest(p_received_at) as received_at,
                 unnest(p_timestamps) as "timestamp", unnest(p_levels) as level, unnest(p_environments) as environment,
                 unnest(p_releases) as release, unnest(p_platforms) as platform, unnest(p_titles) as title,
                 unnest(p_culprits) as culprit, unnest(p_messages) as message, unnest(p_transactions) as transaction,
                 unnest(p_server_names) as server_name, unnest(p_users) as user_key, unnest(p_payloads) as payload,
                 unnest(v_keep) as keep) e
   where e.keep;

  -- 4. What batches share.
  if cardinality(p_tag_pairs) > 0 then
    insert into issue_tag_deltas (project_id, issue_ids, groups, pairs, counts, tag_keys, tag_values)
    values (p_project_id, array(select case when not g.discarded then g.issue_id end from unnest(v_issue_ids, v_discarded) as g(issue_id, discarded)),
            p_tag_groups, p_tag_pairs, p_tag_counts, p_tag_keys, p_tag_values);
  end if;

  with new_users as (
    insert into issue_users (project_id, issue_id, user_key)
    select distinct p_project_id, e.issue_id, e.user_key
      from unnest(r_issue_ids, p_users, v_keep) as e(issue_id, user_key, keep)
     where e.keep and e.user_key is not null
     order by e.issue_id, e.user_key
    on conflict do nothing
    returning issue_id
  ), traffic as (
    select e.issue_id, count(*) filter (where e.keep) as kept, count(*) filter (where not e.keep) as dropped,
           max(e.received_at) as last_seen
      from unnest(r_issue_ids, p_received_at, v_keep, v_fresh) as e(issue_id, received_at, keep, fresh)
     where e.fresh and e.issue_id <> all (v_created)
     group by e.issue_id
  ), users as (
    select issue_id, count(*) as new_users from new_users group by issue_id
  ), locked as (
    select s.issue_id, t.kept, t.dropped, t.last_seen, coalesce(u.new_users, 0) as new_users
      from issue_stats s
      join traffic t on t.issue_id = s.issue_id
      left join users u on u.issue_id = s.issue_id
     where s.project_id = p_project_id
     order by s.issue_id
       for update of s
  ), updated as (
    update issue_stats s
       set event_count = s.event_count + l.kept, dropped_count = s.dropped_count + l.dropped,
           user_count = s.user_count + l.new_users,
           last_seen = case when l.kept > 0 then greatest(s.last_seen, l.last_seen) else s.last_seen end
      from locked l
     where s.project_id = p_project_id and s.issue_id = l.issue_id
    returning 1
  )
  select (select count(*) from traffic), (select count(*) from updated) into v_known, v_updated;
  if v_updated < v_known then
    raise exception 'an issue was deleted while its events were written' using errcode = 'MS001';
  end if;

  -- After issue_stats: who deletes an issue locks that row, and then knows that no batch holds its rows here.
  insert into issue_hourly as t (project_id, issue_id, hour, event_count)
  select p_project_id, e.issue_id, date_trunc('hour', e.received_at, 'UTC'), count(*)
    from unnest(r_issue_ids, p_received_at, v_keep) as e(issue_id, received_at, keep)
   where e.keep
   group by 2, 3
   order by 2, 3
  on conflict (project_id, issue_id, hour) do update set event_count = t.event_count + excluded.event_count;

  insert into project_hourly as t (project_id, hour, level, event_count)
  select p_project_id, date_trunc('hour', e.received_at, 'UTC'), e.level, count(*)
    from unnest(p_received_at, p_levels, v_keep) as e(received_at, level, keep)
   where e.keep
   group by 2, 3
   order by 2, 3
  on conflict (project_id, hour, level) do update set event_count = t.event_count + excluded.event_count;

  -- 5. Ids that were there before: the issue that they were stored under, whatever it is called today.
  if false = any (v_fresh) then
    with stored as (
      select e.id, e.issue_id from events e
       where e.project_id = p_project_id
         and e.id = any (array(select i.id from unnest(p_ids, v_fresh) as i(id, fresh) where not i.fresh))
    )
    select array_agg(case when e.fresh then e.issue_id else coalesce(s.issue_id, e.issue_id) end order by e.n),
           string_agg(case when e.fresh or s.issue_id is null then e.status else 'a' end, '' order by e.n)
      into r_issue_ids, r_statuses
      from unnest(p_ids, r_issue_ids, v_fresh, string_to_array(r_statuses, null)) with ordinality as e(id, issue_id, fresh, status, n)
      left join stored s on s.id = e.id;
  end if;
end $$;
comment on function ingest_batch is 'Stores one batch of events of one project: deduplicates, finds or creates issues, inserts, counts. See db/ingest_batch.sql.';

-- Adds up to p_most batches of counted tags to issue_tags; returns how many there were. Any number of sessions may call it
-- at once. Counts of an issue that was deleted meanwhile are dropped: its issue_stats row is locked against deletion first.
create or replace function fold_issue_tags(p_project_id bigint, p_most integer) returns integer
language plpgsql set search_path from current as $$
declare v_batches integer;
begin
  with taken as materialized (
    delete from issue_tag_deltas d
     where d.project_id = p_project_id
       and d.id = any (array(select o.id from issue_tag_deltas o where o.project_id = p_project_id order by o.id limit p_most for update skip locked))
    returning d.issue_ids, d.groups, d.pairs, d.counts, d.tag_keys, d.tag_values
  ), counted as materialized (
    select t.issue_ids[a.grp] as issue_id, g.key, g.value, sum(a.n) as event_count
      from taken t
     cross join lateral unnest(t.groups, t.pairs, t.counts) as a(grp, pair, n)
     join lateral unnest(t.tag_keys, t.tag_values) with ordinality as g(key, value, pair) on g.pair = a.pair
     group by 1, 2, 3
  ), alive as (
    select s.issue_id from issue_stats s where s.project_id = p_project_id and s.issue_id in (select issue_id from counted)
     order by s.issue_id for key share
  ), folded as (
    insert into issue_tags as t (project_id, issue_id, key, value, event_count)
    select p_project_id, c.issue_id, c.key, c.value, c.event_count
      from counted c join alive using (issue_id)
     order by c.issue_id, c.key, c.value
    on conflict (project_id, issue_id, key, value) do update set event_count = t.event_count + excluded.event_count
    returning 1
  )
  select (select count(*) from taken) into v_batches;
  return v_batches;
end $$;
comment on function fold_issue_tags is 'Adds what batches counted in issue_tag_deltas to issue_tags.';

-- The days around now, so that events can be written through psql alone; a running server makes more ahead.
select ensure_event_partitions((now() at time zone 'UTC')::date - 1, (now() at time zone 'UTC')::date + 1);
