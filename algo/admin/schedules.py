"""The schedules of Celery beat, in the theme, for Admins."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from django_celery_beat import admin as beat
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from algo.admin.base import AdminsOnly, Audited

for _model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(_model)


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The registered tasks."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["regtask"].widget = TaskSelect()
        self.fields["task"].widget = UnfoldAdminTextInputWidget()


class TasksInline(TabularInline):
    model = PeriodicTask
    fields = readonly_fields = ("name", "task", "enabled")
    extra = 0
    can_delete = False
    show_change_link = True
    verbose_name_plural = _("Tasks on this schedule")

    def has_add_permission(self, request: object, obj: object = None) -> bool:
        return False


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(AdminsOnly, Audited, beat.PeriodicTaskAdmin, ModelAdmin):
    form = PeriodicTaskForm
    change_form_template = None  # the original's holds an inline script, which says a crontab in words
    list_display = ("name", "task", "enabled", "scheduler", "last_run_at", "total_run_count")
    list_filter = ("enabled",)
    date_hierarchy = None


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(AdminsOnly, Audited, ModelAdmin):
    inlines = (TasksInline,)


@admin.register(SolarSchedule)
class SolarScheduleAdmin(AdminsOnly, Audited, ModelAdmin):
    inlines = (TasksInline,)


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(AdminsOnly, Audited, beat.CrontabScheduleAdmin, ModelAdmin):
    inlines = (TasksInline,)


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(AdminsOnly, Audited, beat.ClockedScheduleAdmin, ModelAdmin):
    inlines = (TasksInline,)
