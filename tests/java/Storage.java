// The official Java SDK against a running server: what an Android app does in a day. Prints "= step: value" for each step.

import cn.leancloud.LCACL;
import cn.leancloud.LCCloud;
import cn.leancloud.LCCloudQuery;
import cn.leancloud.LCException;
import cn.leancloud.LCFile;
import cn.leancloud.LCInstallation;
import cn.leancloud.LCObject;
import cn.leancloud.LCQuery;
import cn.leancloud.LCRole;
import cn.leancloud.LCSaveOption;
import cn.leancloud.LCStatus;
import cn.leancloud.LCStatusQuery;
import cn.leancloud.LCUser;
import cn.leancloud.callback.FollowersAndFolloweesCallback;
import cn.leancloud.core.LeanCloud;
import cn.leancloud.query.QueryConditions;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

public class Storage {
    interface Step {
        Object run() throws Exception;
    }

    static void step(String name, Step step) {
        Object value;
        try {
            value = step.run();
        } catch (Throwable error) {
            Throwable cause = error.getCause() == null ? error : error.getCause();
            value = cause instanceof LCException ? "code " + ((LCException) cause).getCode() : "failed " + error;
        }
        System.out.println("= " + name + ": " + value);
    }

    static LCObject thing(String key, Object value) {
        LCObject made = new LCObject("Thing");
        made.put(key, value);
        return made;
    }

    static LCStatusQuery inbox() {
        return LCStatus.inboxQuery(LCUser.currentUser(), LCStatus.INBOX_TYPE.TIMELINE.toString());
    }

    public static void main(String[] arguments) {
        LeanCloud.initialize(System.getenv("APP_ID"), System.getenv("APP_KEY"), System.getenv("SERVER_URL"));
        objects();
        users();
        files();
        friends();
        others();
        System.exit(0);
    }

    static void objects() {
        LCObject first = thing("n", 1);
        first.put("tags", new ArrayList<>(List.of("a")));
        LCObject child = new LCObject("Child");
        child.put("x", 7);
        step("save", () -> {
            first.save();
            return !first.getObjectId().isEmpty();
        });
        step("several operations on one field", () -> {
            first.add("tags", "b");
            first.removeAll("tags", List.of("a"));
            first.increment("n", 2);
            first.save();
            LCObject fresh = new LCQuery<LCObject>("Thing").get(first.getObjectId());
            return fresh.getList("tags") + " " + fresh.getInt("n");
        });
        step("child", () -> {
            LCObject parent = thing("child", child);
            parent.save();
            return new LCQuery<LCObject>("Thing").include("child").get(parent.getObjectId()).getLCObject("child").getInt("x");
        });
        step("save all", () -> {
            LCObject.saveAll(List.of(thing("n", 5), thing("n", 6)));
            return new LCQuery<LCObject>("Thing").whereGreaterThan("n", 4).find().size();
        });
        step("count", () -> new LCQuery<LCObject>("Thing").whereExists("n").count());
        step("cql", () -> LCCloudQuery.executeInBackground("select * from Thing where n > ?", 4).blockingFirst().getResults().size());
        step("relation", () -> {
            first.getRelation("kids").add(child);
            first.save();
            LCObject fresh = new LCQuery<LCObject>("Thing").get(first.getObjectId());
            return fresh.getRelation("kids").getQuery().find().size();
        });
        step("condition", () -> {
            LCObject one = thing("n", 100);
            one.save();
            one.increment("n", -1);
            LCQuery<LCObject> enough = new LCQuery<LCObject>("Thing").whereGreaterThanOrEqualTo("n", 1000);
            return one.saveInBackground(new LCSaveOption().query(enough)).blockingFirst();
        });
        step("delete all", () -> {
            LCObject.deleteAll(List.of(first));
            return new LCQuery<LCObject>("Thing").whereEqualTo("objectId", first.getObjectId()).count();
        });
    }

    static void users() {
        step("sign up", () -> {
            LCUser user = new LCUser();
            user.setUsername("somebody");
            user.setPassword("pw");
            user.signUp();
            return user.isAuthenticated();
        });
        step("log in", () -> LCUser.logIn("somebody", "pw").blockingFirst().getUsername());
        step("wrong password", () -> LCUser.logIn("somebody", "wrong").blockingFirst());
        step("become", () -> LCUser.becomeWithSessionTokenInBackground(LCUser.currentUser().getSessionToken()).blockingFirst().getUsername());
        step("profile", () -> {
            LCUser user = LCUser.currentUser();
            user.put("city", "x");
            user.save();
            return LCUser.becomeWithSessionTokenInBackground(user.getSessionToken()).blockingFirst().getString("city");
        });
        step("same token", () -> {
            String before = LCUser.currentUser().getSessionToken();
            LCUser.currentUser().refreshSessionTokenInBackground().blockingFirst();
            return before.equals(LCUser.currentUser().getSessionToken());
        });
        step("strict query", () -> {
            QueryConditions named = new QueryConditions();
            named.whereEqualTo("username", "somebody");
            return LCUser.strictlyFind(named).blockingFirst().size();
        });
        step("role", () -> {
            LCACL rights = new LCACL();
            rights.setPublicReadAccess(true);
            LCRole role = new LCRole("admins", rights);
            role.getUsers().add(LCUser.currentUser());
            role.save();
            return LCUser.currentUser().getRolesInBackground().blockingFirst().size();
        });
    }

    static void files() {
        LCFile file = new LCFile("hello.txt", "hello".getBytes());
        step("file", () -> {
            file.save();
            return new String(LCFile.withObjectIdInBackground(file.getObjectId()).blockingFirst().getData());
        });
        step("empty file", () -> {
            LCFile empty = new LCFile("empty.txt", new byte[0]);
            empty.save();
            return LCFile.withObjectIdInBackground(empty.getObjectId()).blockingFirst().getName();
        });
        step("object with files", () -> {
            LCObject holder = thing("file", file);
            holder.put("unsaved", new LCFile("b.txt", "b".getBytes()));
            holder.put("list", List.of(file));
            holder.save();
            LCObject fresh = new LCQuery<LCObject>("Thing").get(holder.getObjectId());
            return new String(fresh.getLCFile("file").getData()) + new String(fresh.getLCFile("unsaved").getData()) + fresh.getList("list").size();
        });
        step("external file", () -> {
            LCFile external = new LCFile("logo.png", "http://files.example/logo.png");
            external.save();
            return LCFile.withObjectIdInBackground(external.getObjectId()).blockingFirst().getUrl();
        });
        step("delete file", () -> {
            file.delete();
            return LCFile.withObjectIdInBackground(file.getObjectId()).blockingFirst().getUrl();
        });
    }

    static void friends() {
        LCUser star = new LCUser(), somebody = LCUser.currentUser();
        step("follow", () -> {
            star.setUsername("star");
            star.setPassword("pw");
            star.signUp();
            LCUser.logIn("somebody", "pw").blockingFirst().followInBackground(star.getObjectId()).blockingFirst();
            return LCUser.currentUser().followeeQuery().find().size();
        });
        step("followers and followees", () -> {
            CompletableFuture<String> counted = new CompletableFuture<>();
            LCUser.currentUser().getFollowersAndFolloweesInBackground(new FollowersAndFolloweesCallback<LCObject>() {
                @Override
                public void done(Map<String, List<LCObject>> found, LCException error) {
                    counted.complete(error == null ? "" + found.keySet() : "" + error);
                }
            });
            return counted.get(10, TimeUnit.SECONDS);
        });
        step("status", () -> {
            LCStatus.createStatus("", "hello").sendToFollowersInBackground().blockingFirst();
            return inbox().find().get(0).getMessage();
        });
        step("statuses sent", () -> LCStatus.statusQuery(LCUser.currentUser()).find().size());
        step("statuses counted", () -> LCStatus.statusQuery(LCUser.currentUser()).count());
        step("status by id", () -> {
            String id = inbox().find().get(0).getObjectId();
            return LCStatus.getStatusWithIdInBackground(id).blockingFirst().getMessage();
        });
        step("unread", () -> {
            LCUser.logIn("star", "pw").blockingFirst();
            LCUser.currentUser().followInBackground(somebody.getObjectId()).blockingFirst();
            LCUser.logIn("somebody", "pw").blockingFirst();
            LCStatus.createStatus("", "again").sendToFollowersInBackground().blockingFirst();
            LCUser.logIn("star", "pw").blockingFirst();
            return inbox().unreadCountInBackground().blockingFirst().get("unread");
        });
        step("line deleted", () -> {
            inbox().find().get(0).deleteInBackground().blockingSubscribe();
            return inbox().find().size();
        });
        step("unfollow", () -> {
            LCUser.logIn("somebody", "pw").blockingFirst();
            LCUser.currentUser().unfollowInBackground(star.getObjectId()).blockingFirst();
            return LCUser.currentUser().followeeQuery().find().size();
        });
        step("friend request", () -> LCUser.currentUser().applyFriendshipInBackground(star, null).blockingFirst());
    }

    static void others() {
        step("installation", () -> {
            LCInstallation device = LCInstallation.getCurrentInstallation();
            device.save();
            device.put("channel", "x");
            device.save();
            return !device.getObjectId().isEmpty();
        });
        step("function", () -> LCCloud.callFunctionInBackground("nope", new HashMap<String, Object>()).blockingFirst());
        step("time", () -> Math.abs(LeanCloud.getServerDateInBackground().blockingFirst().getDate().getTime() - System.currentTimeMillis()) < 60000);
    }
}
