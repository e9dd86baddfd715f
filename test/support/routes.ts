// Every row of the HTTP API as the server binds it, without what its handlers need: to look at, not to call.

import { accountRoutes } from '../../server/http/account-routes.ts'
import type { ApiRoute } from '../../server/http/api.ts'
import { groupingRoutes } from '../../server/http/grouping-routes.ts'
import { issueRoutes } from '../../server/http/issue-routes.ts'
import { reportRoutes } from '../../server/http/report-routes.ts'
import { tenancyRoutes } from '../../server/http/tenancy-routes.ts'
import { triageRoutes } from '../../server/http/triage-routes.ts'

const unused = null as never
export const rows: ApiRoute[] = [
  ...accountRoutes({
    db: unused,
    accounts: unused,
    targets: unused,
    oidcName: null,
    asksForSetupToken: false,
    accessChanged: unused,
  }),
  ...tenancyRoutes({ db: unused, targets: unused, accessChanged: unused }),
  ...issueRoutes({ issues: unused }),
  ...triageRoutes({ act: unused, merges: unused }),
  ...groupingRoutes({ groupings: unused }),
  ...reportRoutes({ feedback: unused, clientReports: unused }),
]
