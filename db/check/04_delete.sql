-- Deleting an issue deletes what belongs to it, and is heard. After 03_merge.sql:
--   psql -d mesher_check -f db/check/04_delete.sql

listen mesher;

-- Heard: "issues" with the action deleted.
delete from issues
 where project_id = (select id from projects where slug = 'check') and short_id = 'CHECK-2';

-- Nothing but the three events of CHECK-1 is left.
select (select count(*) from issues i where i.project_id = p.id) as issues,
       (select count(*) from issue_stats s where s.project_id = p.id) as stats,
       (select count(*) from issue_hashes h where h.project_id = p.id) as hashes,
       (select count(*) from events e where e.project_id = p.id) as events
  from projects p
 where p.slug = 'check';

-- With its organization goes the project, its keys and its issues.
delete from organizations where slug = 'mesher-check';
select count(*) as projects from projects where slug = 'check';
