/* A game server's scripts: many Lua states in one process, in which tables and strings grow and go.
 * Built by tests/traces/make, with liblua5.4-dev. `states STATES ROUNDS` */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static const char script[] =
    "local world, log, n = {}, '', 0\n"
    "function step(i)\n"
    "  for k = 1, 60 do\n"
    "    n = n + 1\n"
    "    world['entity' .. n] = { x = i, y = k, name = ('n'):rep(n % 40), items = { k, i, n } }\n"
    "    world['entity' .. (n - 150)] = nil\n"
    "    log = log .. k .. ';'\n"
    "    if #log > 3000 then log = log:sub(-500) end\n"
    "  end\n"
    "  local list = {}\n"
    "  for name, entity in pairs(world) do list[#list + 1] = name .. #entity.items end\n"
    "  return #table.concat(list, ',')\n"
    "end\n";

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 100, rounds = argc > 2 ? atoi(argv[2]) : 20;
    lua_State **states = calloc((size_t)count, sizeof *states);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            /* Now and then a player leaves, and another one comes. */
            if (states[i] != NULL && (i + round) % 17 == 0) {
                lua_close(states[i]);
                states[i] = NULL;
            }
            if (states[i] == NULL) {
                states[i] = luaL_newstate();
                luaL_openlibs(states[i]);
                if (luaL_dostring(states[i], script) != LUA_OK)
                    return 1;
            }
            lua_getglobal(states[i], "step");
            lua_pushinteger(states[i], round);
            if (lua_pcall(states[i], 1, 1, 0) != LUA_OK)
                return 1;
            lua_pop(states[i], 1);
        }
    }
    for (int i = 0; i < count; i++)
        if (states[i] != NULL && i % 2 == 0)
            lua_close(states[i]);
    return 0;
}
