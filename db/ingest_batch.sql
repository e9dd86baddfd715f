-- The hot path: one call writes one batch of one project. Applied whole after the migrations; running it twice changes
-- nothing. The first argument is the project, so that Citus can delegate the call to the worker that holds it.
--
-- A few set-based statements in this order: ids, hashes, events, and only then what batches share, so that hot rows are
-- locked late and briefly (measured: 0.71 to 0.83 of bare COPY in this order, 0.36 with the upserts first).
-- Lock order, the same in every batch, each step sorted by key, so that batches never deadlock, nor with people, who lock
-- issues, then project_counters, then (on delete and merge) issue_stats:
--   event_ids, project_new_issues, issue_hashes, issues (what comes back), project_counters, issue_stats, issue_users,
--   issue_hourly, project_hourly.
-- All but event_ids and those from issue_stats on are for what is new or comes back; events of known issues need none of them.
-- Tags are the many rows: a batch of 250 events touches 1,700 hot ones. So a batch only appends what it counted to
-- issue_tag_deltas, and fold_issue_tags adds that to hash_tags about once a second: 24,500 events/s instead of 5,500.

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

-- Finds the issue of each list of hashes whose first is unknown, and binds what no issue has yet. A list is the hash of a group
-- and, or null, one more: the first that is known decides, and what is not known is bound to that issue. None known makes a
-- new issue, as long as the project has any left this minute (projects.new_issues_per_minute); then the group belongs to the
-- overflow issue, whose hash is nil, and its own hash stays free for the next minute.
-- Whoever binds holds the row in project_new_issues until its commit, so nobody else of this project does meanwhile.
create or replace function ingest_take_hashes(
  p_project_id bigint, p_hashes uuid[], p_wanted boolean[], p_other_hashes uuid[], p_other_groups integer[],
  p_algo text, p_components json[], p_other_components json[],
  out r_created bigint[], out r_overflow_issue bigint, out r_overflow boolean[]
) language plpgsql set search_path from current as $$
declare
  c_nil constant uuid := '00000000-0000-0000-0000-000000000000';
  v_groups integer[];     -- of each list, in the order of events
  v_all uuid[];           -- every hash once, sorted
  v_firsts integer[];     -- of each list, where in v_all
  v_others integer[];
  v_known bigint[];       -- the issue of each of v_all
  v_owners bigint[];      -- the same, and what is bound here
  v_minute timestamptz := date_trunc('minute', now(), 'UTC');
  v_left integer;
  v_owner bigint;
  v_overflow_issue bigint;
  v_unsaid text;
  v_bound integer;
begin
  select array_agg(l.grp order by l.n), array_agg(l.other order by l.n) into v_groups, p_other_hashes
    from (select p.grp, p.other, p.n from unnest(p_other_groups, p_other_hashes) with ordinality as p(grp, other, n)
          union all
          select g.n, null, 1000000 + g.n from generate_subscripts(p_hashes, 1) as g(n) where g.n <> all (p_other_groups)) l
   where p_wanted is null or p_wanted[l.grp];
  v_all := array(select distinct h.hash from (select p_hashes[g.grp] from unnest(v_groups) as g(grp) union all select unnest(p_other_hashes)) as h(hash)
                  where h.hash is not null order by h.hash);
  select array_agg(a.n order by l.n), array_agg(b.n order by l.n) into v_firsts, v_others
    from unnest(v_groups, p_other_hashes) with ordinality as l(grp, other, n)
    join unnest(v_all) with ordinality as a(hash, n) on a.hash = p_hashes[l.grp]
    left join unnest(v_all) with ordinality as b(hash, n) on b.hash = l.other;

  -- In a storm of unknown hashes every batch gets here: when there is nothing to bind it takes no lock.
  for v_locked in 0 .. 1 loop
    if v_locked = 1 then
      perform from project_new_issues where project_id = p_project_id for update;
    end if;
    select p.new_issues_per_minute - case when n.minute >= v_minute then n.issues else 0 end into v_left
      from projects p join project_new_issues n on n.project_id = p.id where p.id = p_project_id;
    if v_left is null then
      raise exception 'project % does not exist', p_project_id using errcode = 'MS002';
    end if;
    continue when v_left > 0 and v_locked = 0;

    select array_agg(h.issue_id order by a.n) into v_known
      from unnest(v_all) with ordinality as a(hash, n)
      left join issue_hashes h on h.project_id = p_project_id and h.hash = a.hash;
    select string_agg(distinct p_hashes[l.grp]::text, ',') into v_unsaid
      from unnest(v_groups, v_firsts) as l(grp, first)
     where p_components is not null and v_known[l.first] is null and p_components[l.grp] is null;
    if v_unsaid is not null then
      raise exception 'hashes are new whose lists and components were left out' using errcode = 'MS004', detail = p_project_id || ':' || v_unsaid;
    end if;

    v_owners := v_known;
    r_created := '{}';
    r_overflow := array_fill(false, array[cardinality(p_hashes)]);
    for i in 1 .. cardinality(v_groups) loop
      v_owner := coalesce(v_owners[v_firsts[i]], v_owners[v_others[i]]);
      if v_owner is null and v_left > 0 then
        v_owner := nextval(pg_get_serial_sequence('issues', 'id'));
        v_left := v_left - 1;
        r_created := r_created || v_owner;
      end if;
      if v_owner is null then
        r_overflow[v_groups[i]] := true;
      else
        v_owners[v_firsts[i]] := v_owner;
        if v_owners[v_others[i]] is null and v_others[i] is not null then v_owners[v_others[i]] := v_owner; end if;
        r_overflow[v_groups[i]] := false;
      end if;
    end loop;
    select issue_id into v_overflow_issue from issue_hashes where project_id = p_project_id and hash = c_nil;
    if v_locked = 0 and v_owners is not distinct from v_known and v_overflow_issue is not null then return; end if;
  end loop;

  if true = any (r_overflow) and v_overflow_issue is null then
    r_overflow_issue := nextval(pg_get_serial_sequence('issues', 'id'));
    r_created := r_created || r_overflow_issue;
    v_all := c_nil || v_all;
    v_owners := r_overflow_issue || v_owners;
    v_known := null::bigint || v_known;
  end if;
  insert into issue_hashes (project_id, hash, issue_id, algo, components)
  select p_project_id, a.hash, a.owner, case when a.hash = c_nil then 'overflow' else p_algo end, c.components
    from unnest(v_all, v_owners, v_known) as a(hash, owner, known)
    left join (
      select distinct on (x.hash) x.hash, x.components
        from (select g.hash, g.components from unnest(p_hashes, p_components) as g(hash, components)
              union all
              select o.hash, o.components from unnest(p_other_hashes, p_other_components) as o(hash, components)) x
       where x.components is not null
       order by x.hash
    ) c on c.hash = a.hash
   where a.known is null and a.owner is not null
   order by a.hash
  on conflict do nothing;
  get diagnostics v_bound = row_count;
  if v_bound <> (select count(*) from unnest(v_owners, v_known) as a(owner, known) where a.known is null and a.owner is not null) then
    raise exception 'a hash was made by hand while its events were written' using errcode = 'MS001';
  end if;
  if cardinality(r_created) > 0 then
    update project_new_issues
       set issues = case when minute >= v_minute then issues else 0 end + cardinality(r_created) - (r_overflow_issue is not null)::integer,
           minute = greatest(minute, v_minute)
     where project_id = p_project_id;
  end if;
end $$;
comment on function ingest_take_hashes is 'Part of ingest_batch: binds unknown hashes to known or new issues, or counts them as overflow.';

-- Issues for hashes that were just taken; p_issue_ids has the one of each group. issue_stats comes before issues: the trigger
-- on issues reports the counts.
create or replace function ingest_create_issues(
  p_project_id bigint, p_created bigint[], p_overflow_issue bigint, p_issue_ids bigint[], p_groups integer[], p_fresh boolean[],
  p_received_at timestamptz[], p_levels text[], p_platforms text[], p_titles text[], p_culprits text[], p_users text[]
) returns void language plpgsql set search_path from current as $$
declare
  v_last_number bigint;
  v_slug text;
begin
  update project_counters set last_short_number = last_short_number + cardinality(p_created)
   where project_id = p_project_id
  returning last_short_number - cardinality(p_created) into v_last_number;
  select upper(slug) into v_slug from projects where id = p_project_id;
  if v_slug is null or v_last_number is null then
    raise exception 'project % does not exist', p_project_id using errcode = 'MS002';
  end if;

  insert into issue_stats (project_id, issue_id, event_count, user_count, last_seen)
  select p_project_id, c.issue_id, count(*), count(distinct e.user_key), max(e.received_at)
    from unnest(p_created) as c(issue_id)
    join unnest(p_groups, p_fresh, p_received_at, p_users) as e(grp, fresh, received_at, user_key)
      on p_issue_ids[e.grp] = c.issue_id and e.fresh
   group by c.issue_id;

  perform set_config('mesher.actor', 'ingest', true);
  insert into issues (project_id, id, short_id, title, culprit, level, platform, first_seen, status_changed_at)
  select p_project_id, f.issue_id, v_slug || '-' || (v_last_number + row_number() over (order by f.n)),
         f.title, f.culprit, f.level, f.platform, f.received_at, f.received_at
    from (
      select distinct on (c.issue_id) c.issue_id, e.n, e.title, e.culprit, e.level, e.platform, e.received_at
        from unnest(p_created) as c(issue_id)
        join unnest(p_groups, p_fresh, p_titles, p_culprits, p_levels, p_platforms, p_received_at) with ordinality
          as e(grp, fresh, title, culprit, level, platform, received_at, n) on p_issue_ids[e.grp] = c.issue_id and e.fresh
       where c.issue_id is distinct from p_overflow_issue
       order by c.issue_id, e.n
    ) f
   order by f.n;
  if p_overflow_issue is not null then
    perform set_config('mesher.because', jsonb_build_object('new_issues_per_minute', (select new_issues_per_minute from projects where id = p_project_id))::text, true);
    insert into issues (project_id, id, short_id, title, culprit, level, platform)
    values (p_project_id, p_overflow_issue, v_slug || '-' || (v_last_number + cardinality(p_created)),
            'Too many new issues: events of further ones are kept here', 'new_issues_per_minute', 'error', 'other');
    perform set_config('mesher.because', '', true);
  end if;
  perform set_config('mesher.actor', '', true);
end $$;
comment on function ingest_create_issues is 'Part of ingest_batch: creates the issues of hashes that are new.';

-- What events bring back, in the order of ids: resolved issues, and archived ones that were to come back after so many events
-- or when they escalate. The issue's row is locked when a limit is within 20,000 events, the most that some forty batches can
-- bring at the same time: from there on its batches come one after the other, and exactly the one that crosses brings it back.
create or replace function ingest_reopen_issues(
  p_project_id bigint, p_issue_ids bigint[], p_groups integer[], p_fresh boolean[], p_received_at timestamptz[]
) returns void language plpgsql set search_path from current as $$
declare
  v_coming bigint[];
  v_hours timestamptz[];
  v_events bigint[];
  v_issue_ids bigint[];
  v_near bigint;
begin
  select array_agg(c.issue_id), array_agg(c.hour), array_agg(c.events) into v_coming, v_hours, v_events
    from (
      select i.id as issue_id, date_trunc('hour', e.received_at, 'UTC') as hour, count(*) as events
        from unnest(p_groups, p_fresh, p_received_at) as e(grp, fresh, received_at)
        join issues i on i.project_id = p_project_id and i.id = p_issue_ids[e.grp]
       where e.fresh and (i.status = 'resolved' or i.archived_until_event_count is not null or i.archived_until_escalating)
       group by 1, 2
    ) c;
  -- First without locks and from afar, then locked and exact.
  foreach v_near in array array[20000, 0] loop
    v_issue_ids := array(
      select distinct i.id
        from unnest(v_coming, v_hours, v_events) as c(issue_id, hour, events)
        join issues i on i.project_id = p_project_id and i.id = c.issue_id
        join issue_stats s on s.project_id = i.project_id and s.issue_id = i.id
        left join issue_hourly h on h.project_id = i.project_id and h.issue_id = i.id and h.hour = c.hour
       where i.status = 'resolved'
          or i.archived_until_event_count <= s.event_count + v_near + (select sum(a.events) from unnest(v_coming, v_events) as a(issue_id, events) where a.issue_id = i.id)
          or i.archived_until_escalating and i.escalation_ceiling < coalesce(h.event_count, 0) + v_near + c.events);
    if cardinality(v_issue_ids) = 0 then return; end if;
    if v_near > 0 then
      perform from issues where project_id = p_project_id and id = any (v_issue_ids) order by id for update;
    end if;
  end loop;
  perform set_config('mesher.actor', 'ingest', true);
  update issues
     set status = 'unresolved', status_changed_at = clock_timestamp(),
         regressed_at = case when status = 'resolved' then clock_timestamp() else regressed_at end,
         escalated_at = case when status = 'archived' then clock_timestamp() else escalated_at end
   where project_id = p_project_id and id = any (v_issue_ids) and status in ('resolved', 'archived');
  perform set_config('mesher.actor', '', true);
end $$;
comment on function ingest_reopen_issues is 'Part of ingest_batch: an event of a resolved issue is a regression, enough of an archived one an escalation.';

-- Arrays are parallel, one element an event; p_groups is the 1-based number of the event's first hash in p_hashes, which holds
-- each once, and p_components what each is of, made by p_algo. An event may bring a second hash. p_other_hashes has each pair of
-- a group and a second hash (null where an event of the group has none) in the order of events, with p_other_groups and
-- p_other_components. A caller may leave out pairs and components of hashes that it knows to be bound: MS004 tells it, with
-- `project:hash,hash…` as the detail, when that was wrong; p_components null says that there are none.
-- Tags come counted, because that costs PostgreSQL three times what it costs the caller: p_tag_keys and p_tag_values hold each
-- pair once, and p_tag_groups, p_tag_pairs, p_tag_counts how many events of a group have it. Events that were stored before
-- must not be in these counts; p_uncounted names those that were left out, in order.
-- r_statuses has one letter an event: a accepted, d dropped (its issue is discarded); an event id that was there before
-- is answered as it was the first time. r_issue_ids is null for a dropped event whose issue is gone. r_overflow has the groups
-- whose hash was not bound, because the project had too many new issues this minute.
-- SQLSTATE MS001: an issue was deleted or merged meanwhile, call again. MS002: the project does not exist. MS003: p_uncounted is
-- not what was stored before; the detail is `project:n,n,…` of what was, count again without these.
create or replace function ingest_batch(
  p_project_id bigint, p_hashes uuid[], p_ids uuid[], p_groups integer[], p_received_at timestamptz[], p_timestamps timestamptz[],
  p_levels text[], p_environments text[], p_releases text[], p_platforms text[], p_titles text[], p_culprits text[],
  p_messages text[], p_transactions text[], p_server_names text[], p_users text[], p_payloads json[],
  p_tag_keys text[], p_tag_values text[], p_tag_groups integer[], p_tag_pairs integer[], p_tag_counts integer[],
  p_uncounted integer[] default '{}', p_algo text default null, p_components json[] default null,
  p_other_hashes uuid[] default '{}', p_other_groups integer[] default '{}', p_other_components json[] default '{}',
  out r_statuses text, out r_issue_ids bigint[], out r_overflow integer[]
) language plpgsql set search_path from current as $$
declare
  v_fresh boolean[];      -- seen for the first time
  v_keep boolean[];       -- fresh, and its issue is not discarded
  v_wanted boolean[];     -- groups with a fresh event; null when all have
  v_missing boolean;
  v_returning boolean;
  v_created bigint[] := '{}';
  v_overflow boolean[];   -- groups beyond what the project may have of new issues
  v_overflow_issue bigint;
  v_issue_ids bigint[];   -- of each group
  v_hash_ids bigint[];
  v_discarded boolean[];
  v_regroups bigint;
  v_uncounted integer[] := '{}';
  v_new_ids uuid[];
  v_all_fresh boolean;
  v_known bigint[];       -- issues that were there before, and what they get
  v_kept bigint[];
  v_dropped bigint[];
  v_last_seen timestamptz[];
  v_locked integer;
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

  -- 2. The issue of each group, and so of each event.
  if not v_all_fresh then
    v_wanted := array(select g.n = any (array(select e.grp from unnest(p_groups, v_fresh) as e(grp, fresh) where e.fresh))
                        from generate_subscripts(p_hashes, 1) as g(n) order by g.n);
  end if;
  for v_round in 1 .. 2 loop
    select array_agg(h.issue_id order by g.n), array_agg(h.id order by g.n),
           array_agg(case when h.issue_id = any (v_created) then false else i.status = 'discarded' end order by g.n),
           bool_or(h.issue_id is null) filter (where v_wanted is null or v_wanted[g.n]),
           bool_or(i.status = 'resolved' or i.archived_until_event_count is not null or i.archived_until_escalating)
             filter (where v_wanted is null or v_wanted[g.n]),
           (select r.version from project_regroups r where r.project_id = p_project_id)
      into v_issue_ids, v_hash_ids, v_discarded, v_missing, v_returning, v_regroups
      from unnest(p_hashes) with ordinality as g(hash, n)
      left join issue_hashes h on h.project_id = p_project_id
       and h.hash = case when v_overflow[g.n] then '00000000-0000-0000-0000-000000000000' else g.hash end
      left join issues i on i.project_id = h.project_id and i.id = h.issue_id;
    exit when v_round = 2 or not coalesce(v_missing, false) and (cardinality(p_other_hashes) = 0 or not true = any (v_fresh));
    select r_created, t.r_overflow_issue, t.r_overflow into v_created, v_overflow_issue, v_overflow
      from ingest_take_hashes(p_project_id, p_hashes, v_wanted, p_other_hashes, p_other_groups, p_algo, p_components, p_other_components) t;
  end loop;
  if v_returning then
    perform ingest_reopen_issues(p_project_id, v_issue_ids, p_groups, v_fresh, p_received_at);
  end if;
  if cardinality(v_created) > 0 then
    perform ingest_create_issues(p_project_id, v_created, v_overflow_issue, v_issue_ids, p_groups, v_fresh, p_received_at, p_levels,
                                 p_platforms, p_titles, p_culprits, p_users);
  end if;
  r_overflow := array(select o.n::integer from unnest(v_overflow) with ordinality as o(yes, n) where o.yes order by o.n);
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
    insert into issue_tag_deltas (project_id, hash_ids, groups, pairs, counts, tag_keys, tag_values)
    values (p_project_id, array(select case when not g.discarded then g.hash_id end from unnest(v_hash_ids, v_discarded) as g(hash_id, discarded)),
            p_tag_groups, p_tag_pairs, p_tag_counts, p_tag_keys, p_tag_values);
  end if;

  -- issue_stats before all that hangs on an issue: who deletes or merges one locks that row, and then knows that no batch
  -- holds any of its rows; and a batch that gets here late starts over.
  select array_agg(t.issue_id order by t.issue_id), array_agg(t.kept order by t.issue_id), array_agg(t.dropped order by t.issue_id),
         array_agg(t.last_seen order by t.issue_id)
    into v_known, v_kept, v_dropped, v_last_seen
    from (
      select e.issue_id, count(*) filter (where e.keep) as kept, count(*) filter (where not e.keep) as dropped, max(e.received_at) as last_seen
        from unnest(r_issue_ids, p_received_at, v_keep, v_fresh) as e(issue_id, received_at, keep, fresh)
       where e.fresh and e.issue_id <> all (v_created)
       group by e.issue_id
    ) t;
  perform from issue_stats where project_id = p_project_id and issue_id = any (v_known) order by issue_id for update;
  get diagnostics v_locked = row_count;
  if v_locked < cardinality(v_known)
     or v_regroups <> (select version from project_regroups where project_id = p_project_id) then
    raise exception 'an issue was deleted or merged while its events were written' using errcode = 'MS001';
  end if;

  with new_users as (
    insert into issue_users (project_id, issue_id, user_key)
    select distinct p_project_id, e.issue_id, e.user_key
      from unnest(r_issue_ids, p_users, v_keep) as e(issue_id, user_key, keep)
     where e.keep and e.user_key is not null
     order by e.issue_id, e.user_key
    on conflict do nothing
    returning issue_id
  ), users as (
    select issue_id, count(*) as new_users from new_users group by issue_id
  )
  update issue_stats s
     set event_count = s.event_count + t.kept, dropped_count = s.dropped_count + t.dropped,
         user_count = s.user_count + coalesce(u.new_users, 0),
         last_seen = case when t.kept > 0 then greatest(s.last_seen, t.last_seen) else s.last_seen end
    from unnest(v_known, v_kept, v_dropped, v_last_seen) as t(issue_id, kept, dropped, last_seen)
    left join users u on u.issue_id = t.issue_id
   where s.project_id = p_project_id and s.issue_id = t.issue_id;

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

-- Adds up to p_most batches of counted tags to hash_tags; returns how many there were. Any number of sessions may call it
-- at once. Counts of an issue that was deleted meanwhile are dropped: its hashes are locked against deletion first.
create or replace function fold_issue_tags(p_project_id bigint, p_most integer) returns integer
language plpgsql set search_path from current as $$
declare v_batches integer;
begin
  with taken as materialized (
    delete from issue_tag_deltas d
     where d.project_id = p_project_id
       and d.id = any (array(select o.id from issue_tag_deltas o where o.project_id = p_project_id order by o.id limit p_most for update skip locked))
    returning d.hash_ids, d.groups, d.pairs, d.counts, d.tag_keys, d.tag_values
  ), counted as materialized (
    select t.hash_ids[a.grp] as hash_id, g.key, g.value, sum(a.n) as event_count
      from taken t
     cross join lateral unnest(t.groups, t.pairs, t.counts) as a(grp, pair, n)
     join lateral unnest(t.tag_keys, t.tag_values) with ordinality as g(key, value, pair) on g.pair = a.pair
     group by 1, 2, 3
  ), alive as (
    select h.id as hash_id from issue_hashes h where h.project_id = p_project_id and h.id in (select hash_id from counted)
     order by h.id for key share
  ), folded as (
    insert into hash_tags as t (project_id, hash_id, key, value, event_count)
    select p_project_id, c.hash_id, c.key, c.value, c.event_count
      from counted c join alive using (hash_id)
     order by c.hash_id, c.key, c.value
    on conflict (project_id, hash_id, key, value) do update set event_count = t.event_count + excluded.event_count
    returning 1
  )
  select (select count(*) from taken) into v_batches;
  return v_batches;
end $$;
comment on function fold_issue_tags is 'Adds what batches counted in issue_tag_deltas to hash_tags.';

-- The days around now, so that events can be written through psql alone; a running server makes more ahead.
select ensure_event_partitions((now() at time zone 'UTC')::date - 1, (now() at time zone 'UTC')::date + 1);
