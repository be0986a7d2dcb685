// Which role a command needs over TCP: the strongest of the routes that `command-routes.json` names for it. The roles are
// those of the route definitions, as in docs/access.md; test/integration/command-routes.test.ts watches what commands call.
import { readFileSync } from 'node:fs';
import { allRoutes } from './api-page.mjs';

const roles = ['viewer', 'restore', 'operator', 'admin'];
const table = JSON.parse(readFileSync(new URL('./command-routes.json', import.meta.url), 'utf8'));

/** @returns gives a sentence for a command such as `backup start`; throws for one that is not in the table */
export async function commandRoles() {
  const access = new Map((await allRoutes()).map((route) => [`${route.method.toUpperCase()} ${route.path}`, route.access]));
  const of = (command, route) => {
    const found = access.get(route);
    if (found === undefined) throw new Error(`command-routes.json names ${route} for "${command}", and there is no such route`);
    return found;
  };
  const words = (command, routes) => {
    const found = routes.map((route) => of(command, route));
    const role = roles[Math.max(...found.map((one) => roles.indexOf(one.role)))];
    return `\`${role}\`${found.some(({ about }) => about === 'appliance') ? ', not with a token of some machines only' : ''}`;
  };
  return (command) => {
    const entry = table[command];
    if (entry === undefined) throw new Error(`the command "${command}" is not in scripts/reference/command-routes.json`);
    const ways = Array.isArray(entry) ? { '': entry } : entry;
    const parts = Object.entries(ways)
      .filter(([, routes]) => routes.length > 0)
      .map(([option, routes]) => `${option === '' ? '' : `with \`${option}\` `}${words(command, routes)}`);
    return parts.length === 0 ? '' : `Role over TCP: ${parts.join('; ')}.`;
  };
}
